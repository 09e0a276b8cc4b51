//! What runs already, told by the kernel side in one go: an iterator over tasks (Linux 5.8).

use std::{
    fs::File,
    io::{self, Read as _},
};

use aya::{
    Btf, Ebpf,
    programs::{Iter, ProgramError, links::LinkError},
};

const PROGRAM: &str = "running_process";

/// Why this kernel does not tell.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunningError {
    #[error("the embedded eBPF object lacks {PROGRAM}")]
    Embedded,
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
}

pub(super) fn read(ebpf: &mut Ebpf, types: &Btf) -> Result<Vec<u8>, RunningError> {
    let program: &mut Iter = ebpf.program_mut(PROGRAM).ok_or(RunningError::Embedded)?.try_into()?;
    program.load("task", types)?;
    let link = program.attach()?;
    let mut file: File = program.take_link(link)?.into_file()?;
    let mut records = Vec::new();
    file.read_to_end(&mut records)?;
    // It is never run again.
    program.unload()?;
    Ok(records)
}
