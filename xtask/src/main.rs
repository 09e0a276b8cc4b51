//! Every developer task: `cargo xtask run`, `cargo xtask test` and what they are made of. One module for each.

mod bench;
mod build;
mod command;
mod fuzz;
mod image;
mod licences;
mod nodes;
mod setup;
mod structure;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Every developer task")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the build needs, and with --test what the tests need.
    Setup {
        /// The tests' needs too.
        #[arg(long)]
        test: bool,
    },
    /// Build the agent, kernel side included.
    Build,
    /// Set up, build, and watch this machine; arguments go to `postern run`.
    Run {
        /// Arguments of `postern run`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Set up, and run every test that this machine can run.
    Test(test::Selection),
    /// Measure what the agent costs.
    Bench(bench::Wanted),
    /// Run every fuzz target for a while.
    Fuzz {
        /// Seconds for each.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Play the access scenarios on whole Debian nodes in virtual machines, and print the score of each.
    Nodes {
        /// These instead of bookworm, trixie and bullseye; there is sid, too.
        suites: Vec<String>,
    },
    /// Live a node's ordinary life (probes, containers, cron, logrotate, timers, packages) before the agent, in a virtual machine,
    /// and fail on any false alarm.
    Quiet {
        /// For so long.
        #[arg(long, default_value_t = 60)]
        minutes: u32,
        /// On a node of this suite.
        #[arg(default_value = "bookworm")]
        suite: String,
    },
    /// Check who may know whom.
    Structure,
    /// Write target/postern-image.tar, an OCI image archive.
    Image,
    /// Write deploy/schema and docs/fields.md anew.
    Schema,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Nodes { suites } => nodes::play(&suites),
        Task::Quiet { minutes, suite } => nodes::live(&suite, minutes),
        Task::Setup { test } => setup::install(test),
        Task::Build => setup::install(false).and_then(|()| build::agent().map(drop)),
        Task::Run { arguments } => run(&arguments),
        Task::Test(selection) => return test::run(&selection),
        Task::Bench(wanted) => bench::run(&wanted),
        Task::Fuzz { seconds } => fuzz::targets().try_for_each(|target| fuzz::run(target, seconds)),
        Task::Structure => structure::check(&command::root()),
        Task::Image => setup::install(true).and_then(|()| image::write().map(drop)),
        Task::Schema => schema(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            command::say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    use std::os::unix::process::CommandExt as _;

    setup::install(false)?;
    let agent = build::agent()?;
    let mut command = if setup::is_root() {
        std::process::Command::new(&agent)
    } else {
        command::say("postern watches the kernel, so it needs root: asking sudo");
        let mut sudo = std::process::Command::new("sudo");
        sudo.arg(&agent);
        sudo
    };
    // Takes this process's place, so that signals and the exit code are the agent's own.
    let error = command.arg("run").args(arguments).exec();
    Err(anyhow::Error::from(error).context(format!("cannot run {}", agent.display())))
}

fn schema() -> Result<()> {
    command::cargo(["test", "--quiet", "--package", "postern", "--lib", "sink::encode::schema"])
        .env("POSTERN_REGENERATE", "1")
        .run()
}
