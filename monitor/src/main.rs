//! tmp
use postern::probe::*;
fn main() {
    let s = ProbeSettings { ring_bytes: 8 << 20, host_root: "/proc/1/root".into() };
    let t = std::time::Instant::now();
    let mut p = match Probe::load(&s) {
        Ok(p) => p,
        Err(e) => {
            println!("{e} {e:#?}");
            return;
        }
    };
    println!("load {:?} missing {:?}", t.elapsed(), p.missing());
    match p.arm(&s) {
        Ok(a) => println!("{a:?}"),
        Err(e) => {
            println!("{e}");
            println!("{e:#?}");
            return;
        }
    }
    println!("armed {:?}", t.elapsed());
    let mut r = p.ring().unwrap();
    let c = p.counters().unwrap();
    let _ = std::process::Command::new("/bin/echo").arg("hi there").status();
    let _ =
        std::process::Command::new("/bin/sh").args(["-c", "(id; true) >/dev/null"]).current_dir("/usr/lib").status();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let n = r.drain(10000, |b| {
        println!("{} {}", b.len(), String::from_utf8_lossy(&b[..]).replace(|c: char| c.is_control(), "."))
    });
    println!("{n} {:#?}", c.read());
}
