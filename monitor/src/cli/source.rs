//! Where `sessions` and `watch` read from: the agent's socket, or a file of a file sink when no agent runs.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use clap::Args;

use super::report;
use crate::{
    config::{Config, Surroundings},
    control::Request,
    exit::Exit,
    sink::settings::Target,
    story::Style,
};

/// Where events are read from.
#[derive(Debug, Default, Args)]
pub struct SourceOptions {
    /// The configuration that the agent runs with; default: /etc/postern/postern.yaml where it exists.
    #[arg(long = "config", short = 'c', value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Read this file of a file sink, `-` for standard input, and do not ask an agent.
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
}

impl SourceOptions {
    /// Lines to read. Where there are none, that is said to `errors`.
    pub(super) fn open(&self, request: Request, errors: &mut impl Write) -> Result<Box<dyn BufRead>, Exit> {
        let mut refuse = |message: String| {
            let _ = writeln!(errors, "postern: {message}");
            Exit::No
        };
        if let Some(path) = &self.file {
            if path == Path::new("-") {
                return Ok(Box::new(io::stdin().lock()));
            }
            return read(path).map_err(|error| refuse(format!("{}: {error}", path.display())));
        }
        let config = Config::load(self.config.as_deref(), &Surroundings::of_this_process()).map_err(|problems| {
            report(&problems, errors);
            Exit::Usage
        })?;
        let Some(socket) = &config.control else {
            let _ =
                writeln!(errors, "postern: nobody can be asked, since control.socket is off; name a file with --file");
            return Err(Exit::Usage);
        };
        let refused = match ask(socket, request) {
            Ok(lines) => return Ok(lines),
            Err(error) => format!("{}: {error}", socket.display()),
        };
        let file = config.sinks.iter().find_map(|sink| match &sink.target {
            Target::File { path, .. } => Some(path),
            _ => None,
        });
        if let Some(path) = file.filter(|_| !request.follow)
            && let Ok(lines) = read(path)
        {
            let _ = writeln!(errors, "postern: no agent answers ({refused}); reading {}", path.display());
            return Ok(lines);
        }
        let _ = writeln!(errors, "postern: no agent answers ({refused}); a file is read with --file");
        Err(Exit::No)
    }
}

fn read(path: &Path) -> io::Result<Box<dyn BufRead>> {
    Ok(Box::new(BufReader::new(File::open(path)?)))
}

fn ask(socket: &Path, request: Request) -> io::Result<Box<dyn BufRead>> {
    let mut agent = UnixStream::connect(socket)?;
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    agent.write_all(&line)?;
    Ok(Box::new(BufReader::new(agent)))
}

/// How standard output takes lines: in colour and cut where it is a terminal.
pub(super) fn style() -> Style {
    let out = io::stdout();
    if !out.is_terminal() {
        return Style::default();
    }
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let width =
        rustix::termios::tcgetwinsize(&out).ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
    Style { colour, width }
}
