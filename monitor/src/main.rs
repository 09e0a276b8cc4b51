//! The `postern` program: arguments, telemetry, crypto provider, configuration, agent, exit code, in this order.

use std::{io, process::ExitCode};

use postern::{
    agent::Agent,
    cli::{self, Arguments, Command},
    exit::Exit,
    privileges, telemetry,
};

fn main() -> ExitCode {
    match Arguments::read() {
        Ok(arguments) => obey(&arguments).into(),
        Err(exit) => exit.into(),
    }
}

fn obey(arguments: &Arguments) -> Exit {
    if let Err(message) = telemetry::start(arguments.log_level) {
        return fail(Exit::Usage, &message);
    }
    let (mut out, mut errors) = (io::stdout(), io::stderr());
    match &arguments.command {
        Command::Run(wanted) => run(wanted),
        Command::Check(wanted) => cli::check(wanted, &mut out, &mut errors),
        Command::Doctor(config) => cli::doctor(config.path.as_deref(), &mut out, &mut errors),
        Command::Health(wanted) => cli::health(wanted.config.path.as_deref(), wanted.question(), &mut errors),
        Command::Sessions(wanted) => cli::sessions(wanted, &mut out, &mut errors),
        Command::Watch(wanted) => cli::watch(wanted, &mut out, &mut errors),
        Command::Schema => cli::schema(&mut out, &mut errors),
        Command::MarkFiles { mask, host_root } => cli::mark_files(*mask, host_root),
    }
}

fn run(wanted: &cli::Run) -> Exit {
    // Two providers may be in the graph; whoever asks first has to find one chosen.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail(Exit::Software, &"a crypto provider was installed before");
    }
    let config = match wanted.configuration() {
        Ok(config) => config,
        Err(problems) => return cli::report(&problems, &mut io::stderr()),
    };
    let terminates = config.access.terminates();
    if let Err(error) = privileges::check(terminates) {
        return fail(Exit::NoPermission, &error);
    }
    // Armed while there is one thread: what that takes is then given up for the whole process.
    let agent = match Agent::arm(config) {
        Ok(agent) => agent,
        Err(failure) => return fail(failure.exit(), &failure),
    };
    if let Err(error) = privileges::drop_after_attach(terminates) {
        return fail(Exit::Software, &error);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(Exit::Software, &error),
    };
    let ended = runtime.block_on(agent.run(wanted.reload()));
    // A pipe that nobody reads must not hold up the end.
    runtime.shutdown_background();
    match ended {
        Ok(()) => Exit::Success,
        Err(failure) => fail(failure.exit(), &failure),
    }
}

fn fail(exit: Exit, error: &dyn std::fmt::Display) -> Exit {
    use io::Write;
    // Not by telemetry: a level of `off` must not hide why the program ended.
    let _ = writeln!(io::stderr(), "postern: {error}");
    exit
}
