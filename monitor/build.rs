//! Builds the kernel programs for the BPF target, so that the agent can embed them.
//!
//! A nested cargo, since no stable cargo can make one package depend on another's binary for another target. `core` is
//! built from source (`-Z build-std`), which a stable toolchain allows with `RUSTC_BOOTSTRAP`.

use std::{env, path::PathBuf, process::Command};

fn main() {
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"));
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("..");
    let target = match variable("CARGO_CFG_TARGET_ENDIAN").as_str() {
        "little" => "bpfel-unknown-none",
        _ => "bpfeb-unknown-none",
    };
    for watched in ["monitor-ebpf", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(watched).display());
    }

    // One folder for all profiles and targets of the agent: the programs are the same for each. Not the outer cargo's
    // own, whose lock is held now.
    let out = workspace.join("target").join("bpf");
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(&workspace)
        .args(["build", "--quiet", "--release", "--package", "postern-ebpf", "--bin", "postern-ebpf"])
        .args(["--features", "programs", "-Z", "build-std=core", "--target", target, "--target-dir"])
        .arg(&out)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", ["-Cdebuginfo=2", "-Clink-arg=--btf"].join("\x1f"));
    // What the outer cargo, or clippy, tells its own compiler is not meant for this one.
    for inherited in ["RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(inherited);
    }
    let done = cargo.status().is_ok_and(|status| status.success());
    assert!(
        done,
        "the kernel programs were not built. `cargo xtask setup` installs what that needs: the rust-src component and bpf-linker"
    );
    let object = out.join(target).join("release").join("postern-ebpf");
    println!("cargo::rustc-env=POSTERN_EBPF_OBJECT={}", object.display());
}
