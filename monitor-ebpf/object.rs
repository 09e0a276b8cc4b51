// Builds one of this package's programs for the BPF target: what the build scripts of those share that embed one.
//
// A nested cargo, since no stable cargo can make one package depend on another's binary for another target. `core` is
// built from source (`-Z build-std`), which a stable toolchain allows with `RUSTC_BOOTSTRAP`.

use std::{env, path::PathBuf, process::Command};

/// Builds `program`; the crate finds the object's path in the environment variable `named`.
pub(crate) fn build(program: &str, named: &str) {
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"));
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("..");
    let target = match variable("CARGO_CFG_TARGET_ENDIAN").as_str() {
        "little" => "bpfel-unknown-none",
        _ => "bpfeb-unknown-none",
    };
    for watched in ["monitor-ebpf", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(watched).display());
    }

    // One folder for all profiles and targets: the programs are the same for each. Not the outer cargo's own, whose lock is
    // held now.
    let out = workspace.join("target").join("bpf");
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(&workspace)
        .args(["build", "--quiet", "--release", "--package", "postern-ebpf", "--bin", program])
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
        "{program} was not built. `cargo xtask setup` installs what that needs: the rust-src component and bpf-linker"
    );
    let object = out.join(target).join("release").join(program);
    println!("cargo::rustc-env={named}={}", object.display());
}
