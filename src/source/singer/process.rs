//! A tap's process: started in a group of its own, listened to on both outputs, and never left behind.
//!
//! Owns signals and waiting; knows nothing of messages. Of our own environment it gets what it needs and what the operator names.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::SingerOptions;
use super::redact::redact;
use crate::source::SourceError;
use crate::source::lines::{Fed, Lines};

/// Lines of stderr that are kept for an error: enough for the end of a Python traceback.
const STDERR_LINES_KEPT: usize = 20;
/// Longest line of stderr that is kept.
const STDERR_LINE_BYTES_MAX: usize = 64 * 1024;
/// How long stdout may stay open and silent behind a tap that has ended (a child of it holds it), before its group is
/// killed; then once more, for one that has left the group. What stands in the pipe is read in any case.
const STDOUT_GRACE: Duration = Duration::from_secs(1);
/// How long stderr may stay open behind a tap that has ended, before its last words are taken as they are.
const STDERR_GRACE: Duration = Duration::from_secs(1);
/// Largest discovered catalog: a database of thousands of tables is some tens of megabytes.
const CATALOG_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What a tap gets of our environment: how programs are found, how people and times are written, and the way to the network.
const PASSED: [&str; 24] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "TZ",
    "TZDIR",
    "LANG",
    "LANGUAGE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "VIRTUAL_ENV",
];
/// A pipe holds 64 KiB, so this is what one read can give.
const READ_BYTES: usize = 64 * 1024;

/// What stands next on an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// A whole line.
    Line,
    /// A line beyond the bound, passed over.
    TooLong,
    /// The last line, without its newline: whole, or cut off.
    Tail,
    /// The end.
    End,
}

/// Lines of bounded length from an output or a file. Each method may be cancelled without loss.
pub(super) struct LineReader<R> {
    inner: R,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    lines: Lines,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(super) fn new(inner: R, line_bytes_max: usize) -> Self {
        Self { inner, buffer: vec![0; READ_BYTES], at: 0, end: 0, lines: Lines::new(line_bytes_max) }
    }

    /// The next line, reading as needed.
    pub(super) async fn next(&mut self) -> io::Result<Read> {
        loop {
            if let Some(read) = self.buffered() {
                return Ok(read);
            }
            if self.fill().await? == 0 {
                return Ok(self.finish());
            }
        }
    }

    pub(super) fn line(&self) -> &[u8] {
        self.lines.line()
    }

    /// A line from what is read already.
    fn buffered(&mut self) -> Option<Read> {
        let (taken, fed) = self.lines.feed(&self.buffer[self.at..self.end]);
        self.at += taken;
        match fed {
            Fed::More => None,
            Fed::Line => Some(Read::Line),
            Fed::TooLong => Some(Read::TooLong),
        }
    }

    /// Reads more; everything read before must have been taken. 0 at the end.
    async fn fill(&mut self) -> io::Result<usize> {
        let length = self.inner.read(&mut self.buffer).await?;
        (self.at, self.end) = (0, length);
        Ok(length)
    }

    fn finish(&mut self) -> Read {
        match self.lines.end() {
            Fed::More => Read::End,
            Fed::Line => Read::Tail,
            Fed::TooLong => Read::TooLong,
        }
    }

    /// What is read and not taken, as raw bytes.
    fn rest(&mut self) -> &[u8] {
        let at = std::mem::replace(&mut self.at, self.end);
        &self.buffer[at..self.end]
    }
}

/// A running tap. Dropping it kills its whole group.
pub(super) struct Tap {
    command: String,
    child: Child,
    /// Absent once the group is gone.
    group: Option<Pid>,
    out: LineReader<ChildStdout>,
    /// The last lines of stderr; each line, kept or not, is a sign of life.
    words: watch::Receiver<VecDeque<String>>,
    stderr: JoinHandle<()>,
    idle: Duration,
    grace: Duration,
    line_bytes_max: usize,
    heard: Instant,
    /// When the tap itself was seen to have ended.
    ended: Option<Instant>,
}

impl Tap {
    pub(super) fn start(options: &SingerOptions, arguments: &[OsString]) -> Result<Self, SourceError> {
        let program = options.program();
        let command =
            Path::new(program).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let failed = |source| SourceError::Start { command: command.clone(), source };
        let mut command_line = prepared(options, arguments);
        if let Some(dir) = &options.working_directory {
            command_line.current_dir(dir);
        }
        let mut child = command_line.spawn().map_err(failed)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(failed(io::Error::other("its outputs are not connected")));
        };
        let (sender, words) = watch::channel(VecDeque::new());
        Ok(Self {
            command,
            child,
            group,
            out: LineReader::new(stdout, options.line_bytes_max),
            words,
            stderr: tokio::spawn(listen(LineReader::new(stderr, STDERR_LINE_BYTES_MAX), sender)),
            idle: options.idle_timeout,
            grace: options.term_grace,
            line_bytes_max: options.line_bytes_max,
            heard: Instant::now(),
            ended: None,
        })
    }

    /// A line that is read already; costs no timer.
    pub(super) fn buffered(&mut self) -> Option<Read> {
        self.out.buffered()
    }

    /// The next line, or [`SourceError::Hung`]. May be cancelled without loss.
    pub(super) async fn next(&mut self) -> Result<Read, SourceError> {
        loop {
            if let Some(read) = self.out.buffered() {
                return Ok(read);
            }
            if self.fill().await? == 0 {
                return Ok(self.out.finish());
            }
        }
    }

    pub(super) fn line(&self) -> &[u8] {
        self.out.line()
    }

    /// The number of the last line, from 1.
    pub(super) fn number(&self) -> u64 {
        self.out.lines.number()
    }

    pub(super) fn line_bytes_max(&self) -> usize {
        self.line_bytes_max
    }

    /// Silence is counted from now on.
    pub(super) fn touch(&mut self) {
        self.heard = Instant::now();
    }

    /// Waits for the exit of a tap whose stdout has ended; what it left running in its group is killed.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus, SourceError> {
        let status = loop {
            let deadline = self.heard + self.idle;
            tokio::select! {
                biased;
                status = self.child.wait() => break status,
                Ok(()) = self.words.changed() => self.touch(),
                () = sleep_until(deadline) => return Err(self.hung()),
            }
        };
        self.kill_group();
        // Past the grace its words so far must do.
        let _ = timeout(STDERR_GRACE, &mut self.stderr).await;
        status.map_err(|source| self.unreadable("wait for", source))
    }

    /// Everything that a tap prints until it ends well: for `--discover`.
    pub(super) async fn output(mut self, stop: &CancellationToken) -> Result<Vec<u8>, SourceError> {
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => Err(SourceError::Stopped),
            outcome = self.gather() => outcome,
        };
        if outcome.is_err() {
            self.end().await;
        }
        outcome
    }

    /// Asks the group to end, kills it after the grace, and reaps the tap. What it prints meanwhile is thrown away.
    pub(super) async fn end(&mut self) {
        self.signal(Signal::TERM);
        let (child, out) = (&mut self.child, &mut self.out);
        let drain = async {
            while matches!(out.fill().await, Ok(1..)) {}
            std::future::pending::<()>().await;
        };
        let ended = timeout(self.grace, async {
            tokio::select! { _ = child.wait() => {}, () = drain => {} }
        });
        // Whether it went by itself or not: the group must be empty.
        let _ = ended.await;
        self.kill_group();
        // A process that is killed cannot fail to end; only its status could be unknown, and nobody asks for it.
        let _ = self.child.wait().await;
        let _ = timeout(STDERR_GRACE, &mut self.stderr).await;
    }

    /// The error of a tap that ended with this status.
    pub(super) fn failed(&self, status: ExitStatus) -> SourceError {
        let outcome = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "without an exit code".to_owned(),
        };
        SourceError::TapFailed {
            command: self.command.clone(),
            outcome,
            code: status.code(),
            stderr: self.last_words(),
        }
    }

    async fn gather(&mut self) -> Result<Vec<u8>, SourceError> {
        let mut all = Vec::new();
        while self.fill().await? > 0 {
            all.extend_from_slice(self.out.rest());
            if all.len() > CATALOG_BYTES_MAX {
                let reason = format!("it is larger than {CATALOG_BYTES_MAX} bytes");
                return Err(SourceError::Catalog { origin: "that the tap discovered".to_owned(), reason });
            }
        }
        let status = self.wait().await?;
        if status.success() { Ok(all) } else { Err(self.failed(status)) }
    }

    async fn fill(&mut self) -> Result<usize, SourceError> {
        loop {
            let deadline = self.ended.map_or(self.heard + self.idle, |ended| ended + STDOUT_GRACE);
            tokio::select! {
                biased;
                filled = self.out.fill() => {
                    self.touch();
                    return filled.map_err(|source| self.unreadable("read the output of", source));
                }
                // Its status is asked for again at the end; here it only counts that it has one.
                _ = self.child.wait(), if self.ended.is_none() => self.ended = Some(Instant::now()),
                // A tap that waits for a slow API tells so on stderr.
                Ok(()) = self.words.changed() => self.touch(),
                () = sleep_until(deadline) => match (self.ended, self.group) {
                    (None, _) => return Err(self.hung()),
                    (Some(_), Some(_)) => {
                        self.kill_group();
                        self.ended = Some(Instant::now());
                    }
                    (Some(_), None) => return Ok(0),
                },
            }
        }
    }

    fn hung(&self) -> SourceError {
        SourceError::Hung { command: self.command.clone(), idle: self.idle, stderr: self.last_words() }
    }

    fn unreadable(&self, action: &'static str, source: io::Error) -> SourceError {
        SourceError::Unreadable { action, path: self.command.clone().into(), source }
    }

    fn last_words(&self) -> Vec<String> {
        self.words.borrow().iter().map(|line| redact(line)).collect()
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It fails only where the group is gone already, which is what was wanted.
            let _ = kill_process_group(group, signal);
        }
    }

    fn kill_group(&mut self) {
        self.signal(Signal::KILL);
        self.group = None;
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.kill_group();
        self.stderr.abort();
    }
}

fn prepared(options: &SingerOptions, arguments: &[OsString]) -> Command {
    let mut command = Command::new(options.program());
    command.args(options.command.get(1..).unwrap_or_default()).args(arguments).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Secrets of ours and of other programs are no business of a tap and its packages.
    command.env_clear();
    for (name, value) in std::env::vars_os() {
        let is_passed = |name: &str| {
            PASSED.contains(&name)
                || name.starts_with("LC_")
                || options.pass_environment.iter().any(|passed| passed == name)
        };
        if name.to_str().is_some_and(is_passed) {
            command.env(name, value);
        }
    }
    command
}

/// Drains stderr for as long as it is open: a tap must never wait for us to read its log.
async fn listen<R: AsyncRead + Unpin>(mut log: LineReader<R>, words: watch::Sender<VecDeque<String>>) {
    // An unreadable log ends like a closed one; what the tap did is told by its output and exit code.
    while let Ok(read @ (Read::Line | Read::Tail | Read::TooLong)) = log.next().await {
        let line = String::from_utf8_lossy(log.line());
        // Metrics are many and say nothing about a failure.
        let kept = read != Read::TooLong && !line.trim().is_empty() && !line.contains("METRIC:");
        words.send_modify(|words| {
            if kept {
                if words.len() == STDERR_LINES_KEPT {
                    words.pop_front();
                }
                words.push_back(line.into_owned());
            }
        });
    }
}
