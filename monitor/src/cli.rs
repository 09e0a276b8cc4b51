//! The command line: what can be asked of the program, and the commands that only look.

mod explain;
mod health;
mod sessions;
mod source;
mod watch;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::{
    health::{Question, health},
    sessions::{Sessions, sessions},
    watch::{Watch, watch},
};
pub use crate::files::serve as mark_files;
use crate::{
    agent::{Agent, Reload},
    config::{self, Config, Problem, Surroundings},
    exit::Exit,
    files, privileges,
    sink::{
        encode,
        settings::{Format, Target},
    },
    telemetry::LogLevel,
};

/// Watches every way into a Kubernetes node, and says who came in and what they did there.
#[derive(Debug, Parser)]
#[command(name = "postern", version, arg_required_else_help = true, infer_subcommands = false)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How much to say on standard error.
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "LEVEL",
        help = "How much to say on standard error; default: the filter in $POSTERN_LOG, else info"
    )]
    pub log_level: Option<LogLevel>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch this machine until told to stop.
    Run(Run),
    /// Check a configuration and list every problem in it.
    Check(Box<Check>),
    /// Say what this kernel offers, which way each sensor takes, and what that costs in coverage.
    Doctor(ConfigPath),
    /// Ask the agent that runs with this configuration how it is; exits with 0 where it is well.
    Health(HealthCheck),
    /// Ask the agent on this node who is in, who was, and what they did.
    Sessions(Box<Sessions>),
    /// Follow what happens on this node, as the agent sees it.
    Watch(Box<Watch>),
    /// Print the JSON schema of the event stream.
    Schema,
    /// What the agent starts to mark file systems; of no use to anybody else.
    #[command(name = files::COMMAND, hide = true)]
    MarkFiles {
        /// What is asked for.
        mask: u64,
        /// Where the node's root file system is seen.
        host_root: PathBuf,
    },
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Which file.
    #[command(flatten)]
    pub config: ConfigPath,
    /// Print events on standard output in this form, whatever the configuration says of it.
    #[arg(long, value_enum, value_name = "FORM")]
    pub output: Option<Output>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Which file.
    #[command(flatten)]
    pub config: ConfigPath,
    /// Say which access rule decides on the login that the options below describe; exits with 1 where none covers it.
    #[arg(long)]
    pub explain: bool,
    /// Who.
    #[command(flatten)]
    pub login: explain::LoginOptions,
}

/// Arguments of `health`.
#[derive(Debug, Args)]
pub struct HealthCheck {
    /// Which file.
    #[command(flatten)]
    pub config: ConfigPath,
    /// Ask whether every sensor is armed, and not only whether the agent lives.
    #[arg(long)]
    pub ready: bool,
}

impl HealthCheck {
    /// What is asked.
    pub const fn question(&self) -> Question {
        if self.ready { Question::Ready } else { Question::Alive }
    }
}

/// Which configuration file.
#[derive(Clone, Debug, Args)]
pub struct ConfigPath {
    /// Configuration file; default: /etc/postern/postern.yaml where it exists.
    #[arg(long = "config", short = 'c', value_name = "PATH")]
    pub path: Option<PathBuf>,
}

impl ConfigPath {
    /// The file, whether it is there or not.
    pub fn file(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(|| config::DEFAULT_PATH.into())
    }
}

/// The form of events on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Pretty,
    /// ECS, one JSON object a line.
    Json,
}

impl From<Output> for Format {
    fn from(output: Output) -> Self {
        match output {
            Output::Pretty => Self::Pretty,
            Output::Json => Self::Json,
        }
    }
}

impl Arguments {
    /// Reads this process's arguments. Where they ask for help or the version, or are wrong, that is printed and the
    /// exit code is returned.
    pub fn read() -> Result<Self, Exit> {
        Self::try_parse().map_err(|error| {
            // Nobody is left to tell when the terminal is gone.
            let _ = error.print();
            if error.use_stderr() { Exit::Usage } else { Exit::Success }
        })
    }
}

impl Run {
    /// The configuration that these arguments ask for. What is doubtful in it is logged.
    pub fn configuration(&self) -> Result<Config, Vec<Problem>> {
        let mut config = Config::load(self.config.path.as_deref(), &Surroundings::of_this_process())?;
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        if let Some(output) = self.output {
            config.set_output(output.into());
        }
        Ok(config)
    }

    /// How it is read again.
    pub fn reload(&self) -> Reload {
        let again = self.clone();
        Reload { file: self.config.file(), load: Box::new(move || again.configuration()) }
    }
}

/// `postern check`: every problem to `errors`, or what the configuration says to `out`.
pub fn check(wanted: &Check, out: &mut impl Write, errors: &mut impl Write) -> Exit {
    match Config::load(wanted.config.path.as_deref(), &Surroundings::of_this_process()) {
        Ok(config) if wanted.explain => explain::explain(&config.access, &wanted.login, out),
        Ok(config) => {
            // A closed pipe changes nothing about the answer, which is the exit code.
            let _ = summary(&config, out);
            Exit::Success
        }
        Err(problems) => report(&problems, errors),
    }
}

/// `postern doctor`: what this kernel offers, which rung each sensor takes, and what that costs in coverage.
pub fn doctor(path: Option<&Path>, out: &mut impl Write, errors: &mut impl Write) -> Exit {
    let config = match Config::load(path, &Surroundings::of_this_process()) {
        Ok(config) => config,
        Err(problems) => return report(&problems, errors),
    };
    if let Err(error) = privileges::check(config.access.terminates()) {
        let _ = writeln!(errors, "postern: {error}");
        return Exit::NoPermission;
    }
    match Agent::arm(config) {
        Ok(agent) => {
            let _ = diagnosis(&agent, out);
            Exit::Success
        }
        Err(failure) => {
            let _ = writeln!(errors, "postern: {failure}");
            failure.exit()
        }
    }
}

fn diagnosis(agent: &Agent, out: &mut impl Write) -> std::io::Result<()> {
    let node = agent.node();
    writeln!(
        out,
        "kernel {} on {}, {}",
        node.kernel,
        node.architecture,
        node.os.as_deref().unwrap_or("unknown system")
    )?;
    for armed in agent.sensors() {
        match &armed.rung {
            Ok(rung) => writeln!(out, "ok      {:<14} {rung}", armed.sensor.name())?,
            Err(reason) => {
                writeln!(out, "missing {:<14} {reason}", armed.sensor.name())?;
                writeln!(out, "        {:<14} {}", "", armed.sensor.without())?;
            }
        }
    }
    for field in agent.missing() {
        writeln!(out, "missing {:<14} {}", field.name, field.without)?;
    }
    agent.notices().iter().try_for_each(|notice| writeln!(out, "note    {notice}"))
}

/// `postern schema`: the JSON schema of the event stream.
pub fn schema(out: &mut impl Write, errors: &mut impl Write) -> Exit {
    match serde_json::to_writer_pretty(&mut *out, &encode::json_schema()).map(|()| writeln!(out)) {
        Ok(Ok(())) => Exit::Success,
        Ok(Err(error)) => fail(errors, &error),
        Err(error) => fail(errors, &error),
    }
}

fn fail(errors: &mut impl Write, error: &dyn std::fmt::Display) -> Exit {
    let _ = writeln!(errors, "postern: {error}");
    Exit::Software
}

/// Lists problems, a line each, and how many there are: the arguments were wrong.
pub fn report(problems: &[Problem], errors: &mut impl Write) -> Exit {
    for problem in problems {
        let _ = writeln!(errors, "{problem}");
    }
    let _ = writeln!(errors, "{} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" });
    Exit::Usage
}

fn summary(config: &Config, out: &mut impl Write) -> std::io::Result<()> {
    for warning in &config.warnings {
        writeln!(out, "{warning} (warning)")?;
    }
    writeln!(out, "ok")?;
    writeln!(out, "access: {} rules", config.access.allow.len())?;
    for sink in &config.sinks {
        let target = match &sink.target {
            Target::Stdout { format } => format!("standard output, {format:?}").to_lowercase(),
            Target::File { path, keep, .. } => format!("{}, {keep} rotated files kept", path.display()),
            Target::Fluentd(settings) => {
                let tls = if settings.tls.is_some() { "TLS" } else { "plain TCP" };
                format!("{} port {} over {tls}", settings.host, settings.port)
            }
        };
        writeln!(out, "sink {}: {target}", sink.name)?;
    }
    match config.admin {
        Some(address) => writeln!(out, "admin: http://{address}"),
        None => writeln!(out, "admin: off"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn run_takes_its_options_before_and_behind() {
        let arguments =
            Arguments::try_parse_from(["postern", "--log-level", "debug", "run", "--output", "json", "-c", "/x"])
                .expect("valid arguments");
        assert_eq!(arguments.log_level, Some(LogLevel::Debug));
        let Command::Run(run) = arguments.command else { panic!("run") };
        assert_eq!((run.output, run.config.path), (Some(Output::Json), Some("/x".into())));
        assert!(Arguments::try_parse_from(["postern", "run", "--output", "xml"]).is_err());
        assert!(Arguments::try_parse_from(["postern", "ru"]).is_err());
    }

    #[test]
    fn health_asks_for_one_of_two_things() {
        let question = |arguments: &[&str]| match Arguments::try_parse_from(arguments).expect("valid arguments").command
        {
            Command::Health(wanted) => wanted.question(),
            other => panic!("{other:?}"),
        };
        assert_eq!(question(&["postern", "health"]), Question::Alive);
        assert_eq!(question(&["postern", "health", "--ready", "-c", "/x"]), Question::Ready);
    }

    #[test]
    fn check_prints_a_summary_or_every_problem() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let run = |text: &str| {
            std::fs::write(file.path(), text).expect("written");
            let (mut out, mut errors) = (Vec::new(), Vec::new());
            let path = Some(file.path().to_owned());
            let wanted = Check { config: ConfigPath { path }, explain: false, login: explain::LoginOptions::default() };
            let exit = check(&wanted, &mut out, &mut errors);
            (exit, String::from_utf8(out).expect("text"), String::from_utf8(errors).expect("text"))
        };
        let (exit, out, errors) = run("admin: {address: '0.0.0.0:1'}");
        assert_eq!((exit, &*errors), (Exit::Success, ""));
        assert!(
            out.contains(
                "(warning)\nok\naccess: 0 rules\nsink stdout: standard output, auto\nadmin: http://0.0.0.0:1\n"
            )
        );
        let (exit, out, errors) = run("a: 1\nb: 2\n");
        assert_eq!((exit, &*out), (Exit::Usage, ""));
        let name = file.path().display();
        assert!(errors.starts_with(&format!("{name}:1:1: unknown key `a`")), "{errors}");
        assert!(
            errors.contains(&format!("{name}:2:1: unknown key `b`")) && errors.ends_with("\n2 problems\n"),
            "{errors}"
        );
    }

    #[test]
    fn wrong_arguments_and_help_have_their_own_exit_codes() {
        let code = |arguments: &[&str]| {
            let error = Arguments::try_parse_from(arguments).expect_err("an early end");
            if error.use_stderr() { Exit::Usage } else { Exit::Success }
        };
        assert_eq!(code(&["postern", "--help"]), Exit::Success);
        assert_eq!(code(&["postern", "--version"]), Exit::Success);
        assert_eq!(code(&["postern", "run", "--help"]), Exit::Success);
        assert_eq!(code(&["postern"]), Exit::Usage);
        assert_eq!(code(&["postern", "run", "--nope"]), Exit::Usage);
    }
}
