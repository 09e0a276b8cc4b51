//! What the kernel side tells of all that runs, in one go: iterators over tasks (Linux 5.8).

use std::{
    fs::File,
    io::{self, Read as _},
};

use aya::{
    Btf, Ebpf,
    programs::{Iter, ProgramError, links::LinkError},
};

/// What runs already, by the verifier's knowledge of types.
pub(super) const RUNNING: &str = "running_process";
/// The same, read by calls.
pub(super) const RUNNING_UNTYPED: &str = "running_process_untyped";
/// What those that run have from others.
pub(super) const INHERITED: &str = "inherited_state";

/// Why this kernel does not tell.
#[derive(Debug, thiserror::Error)]
pub(super) enum TasksError {
    #[error("the embedded eBPF object lacks {0}")]
    Embedded(&'static str),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
}

pub(super) fn load(ebpf: &mut Ebpf, types: &Btf, name: &'static str) -> Result<(), TasksError> {
    Ok(program(ebpf, name)?.load("task", types)?)
}

/// What a program writes that was loaded before.
pub(super) fn read(ebpf: &mut Ebpf, name: &'static str) -> Result<Vec<u8>, TasksError> {
    let program = program(ebpf, name)?;
    let link = program.attach()?;
    let mut file: File = program.take_link(link)?.into_file()?;
    let mut written = Vec::new();
    file.read_to_end(&mut written)?;
    Ok(written)
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Iter, TasksError> {
    Ok(ebpf.program_mut(name).ok_or(TasksError::Embedded(name))?.try_into()?)
}
