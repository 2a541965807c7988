//! The `singer` source: runs any Singer tap and follows what it says (specification 0.3.0 and the customs of the taps
//! that were watched).
//!
//! Owns one run of a tap from its catalog to its exit code. Never reads a STATE's meaning, never lets a tap outlive the
//! read, and leaves no working file that could hold a secret, but the config copy that a tap may have to keep.

mod catalog;
mod follow;
mod message;
mod process;
mod redact;
#[cfg(test)]
mod tests;
mod work;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::catalog::Selection;
use self::follow::{Follow, Taken};
use self::process::{Read, Tap};
use self::work::WorkDir;
use super::page;
use super::{Cursor, From, Page, ReadEnd, SourceError};
use crate::clock::Clock;
use crate::contact::Columns;

/// Rows and a cursor never wait longer than this for their page to fill: a tap that trickles (a slow API) is still live.
const PAGE_AGE_MAX: Duration = Duration::from_secs(2);

/// At a STATE a page is sent once it holds this many: a tap that writes STATE after each row must not cost a
/// transaction a row, and one that dies must not cost many rows again.
const PAGE_ITEMS_AT_STATE: usize = 500;

/// Singer's replication methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicationMethod {
    /// Rows from the bookmark of the replication key on, bookmark included.
    Incremental,
    /// Every row each time.
    FullTable,
    /// The database's log of changes.
    LogBased,
}

impl ReplicationMethod {
    /// The catalog's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Incremental => "INCREMENTAL",
            Self::FullTable => "FULL_TABLE",
            Self::LogBased => "LOG_BASED",
        }
    }
}

/// Under which argument the tap takes its catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatalogArgument {
    /// `--catalog`, the usual one.
    Catalog,
    /// `--properties`, for taps from before (tap-hubspot prints nothing under the other).
    Properties,
}

impl CatalogArgument {
    fn as_str(self) -> &'static str {
        match self {
            Self::Catalog => "--catalog",
            Self::Properties => "--properties",
        }
    }
}

/// How to run a tap. `Debug` leaves out the arguments of the command, which may hold secrets.
#[derive(Clone)]
pub struct SingerOptions {
    /// The source's name in the configuration, for messages.
    pub source_name: String,
    /// Program and arguments; at least the program.
    pub command: Vec<String>,
    /// The tap's config file. Where it cannot be written (a systemd credential), the tap works on a copy in `work_dir`,
    /// made anew only when this file changes.
    pub config: PathBuf,
    /// A catalog with the stream selected; discovered and selected when absent.
    pub catalog: Option<PathBuf>,
    /// The stream's name or `tap_stream_id`.
    pub stream: String,
    /// Column that orders changes, for a discovered catalog.
    pub replication_key: Option<String>,
    /// For a discovered catalog: INCREMENTAL where there is a key, else what the tap says, else `FULL_TABLE`.
    pub replication_method: Option<ReplicationMethod>,
    /// The name of the catalog argument.
    pub catalog_argument: CatalogArgument,
    /// Silence on both outputs after which the tap counts as hung. Too low kills a tap that waits for a slow CRM.
    pub idle_timeout: Duration,
    /// How long a tap may take to end after TERM before it is killed.
    pub term_grace: Duration,
    /// Longest line of stdout, in bytes; at least 16 MiB is customary.
    pub line_bytes_max: usize,
    /// A directory of this source alone, made with mode 0700.
    pub work_dir: PathBuf,
    /// Where the tap runs; this process's own directory where it is not set.
    pub working_directory: Option<PathBuf>,
    /// Names of variables that the tap gets beside the usual ones.
    pub pass_environment: Vec<String>,
}

impl fmt::Debug for SingerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingerOptions")
            .field("source_name", &self.source_name)
            .field("command", &self.program())
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl SingerOptions {
    /// The program without its arguments.
    fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }
}

/// A stream of a tap.
#[derive(Debug)]
pub struct SingerSource {
    options: SingerOptions,
    columns: Columns,
    clock: Clock,
}

/// One run: the tap, what it said so far, and where that goes.
struct Run<'a> {
    tap: Tap,
    follow: Follow,
    pages: &'a mpsc::Sender<Page>,
    stop: &'a CancellationToken,
    /// When the page that is being filled must go at the latest; absent while it is empty.
    due: Option<Instant>,
}

impl SingerSource {
    /// A source that runs the tap anew each time.
    #[must_use]
    pub fn new(options: SingerOptions, clock: Clock) -> Self {
        Self { options, columns: Columns::default(), clock }
    }

    /// The same, which compares the tap's key with the columns of the id.
    #[must_use]
    pub(super) fn expecting(self, columns: Columns) -> Self {
        Self { columns, ..self }
    }

    pub(super) fn full_only(&self) -> bool {
        self.options.replication_method == Some(ReplicationMethod::FullTable)
    }

    pub(super) async fn read(
        &self,
        from: From,
        pages: mpsc::Sender<Page>,
        stop: CancellationToken,
    ) -> Result<ReadEnd, SourceError> {
        let asked_at = self.clock.now();
        let work = WorkDir::open(&self.options)?;
        let outcome = async {
            let selection = self.select(&work, &stop).await?;
            let cursor = match from {
                From::Beginning => None,
                From::Cursor(cursor) => Some(cursor),
            };
            let state = cursor.as_ref().map(|cursor| work.write_state(cursor)).transpose()?;
            let arguments = self.arguments(&work, &selection, state.as_ref().map(work::StateFile::path));
            let tap = Tap::start(&self.options, &arguments)?;
            let follow = Follow::new(selection, cursor, asked_at, self.columns.key.clone());
            let run = Run { tap, follow, pages: &pages, stop: &stop, due: None };
            run.complete().await
        }
        .await;
        // Whatever became of the run: the tap may have rotated its token, and the next run needs the new one.
        let kept = work.keep_config();
        let end = outcome?;
        kept.map(|()| end)
    }

    /// The catalog to pass and what it says of the stream.
    async fn select(&self, work: &WorkDir, stop: &CancellationToken) -> Result<Selection, SourceError> {
        if let Some(path) = &self.options.catalog {
            return catalog::read_given(path, &self.options.stream);
        }
        let arguments = [OsString::from("--config"), work.config().into(), OsString::from("--discover")];
        let tap = Tap::start(&self.options, &arguments)?;
        let discovered = tap.output(stop).await?;
        let (selection, text) = catalog::select(&discovered, &self.options)?;
        let path = work.write_catalog(&text)?;
        Ok(Selection { path, ..selection })
    }

    fn arguments(&self, work: &WorkDir, selection: &Selection, state: Option<&std::path::Path>) -> Vec<OsString> {
        let mut arguments = vec![OsString::from("--config"), work.config().into()];
        arguments.extend([self.options.catalog_argument.as_str().into(), selection.path.clone().into()]);
        if let Some(state) = state {
            arguments.extend([OsString::from("--state"), state.into()]);
        }
        arguments
    }
}

impl Run<'_> {
    async fn complete(mut self) -> Result<ReadEnd, SourceError> {
        match self.follow_tap().await {
            Ok(status) if status.success() => {
                self.flush().await?;
                Ok(self.follow.end())
            }
            Ok(status) => {
                self.flush().await?;
                Err(self.tap.failed(status))
            }
            Err(SourceError::Stopped) => {
                // A tap that is asked to end writes a partial STATE and exits 0 (seen in SDK taps): nothing that it
                // says from here on is taken.
                self.tap.end().await;
                Err(SourceError::Stopped)
            }
            Err(error) => {
                self.tap.end().await;
                // What came before stands by itself, with its STATE.
                self.flush().await?;
                Err(error)
            }
        }
    }

    /// Everything up to the tap's exit.
    async fn follow_tap(&mut self) -> Result<ExitStatus, SourceError> {
        let tail = loop {
            // Most lines are read already; only at the end of a chunk are the stop and the timers looked at.
            let read = if let Some(read) = self.tap.buffered() {
                read
            } else {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return Err(SourceError::Stopped),
                    read = self.tap.next() => read?,
                    () = until(self.due) => {
                        self.flush().await?;
                        continue;
                    }
                }
            };
            match read {
                Read::Line => self.take_line().await?,
                Read::TooLong => self.follow.too_long(self.tap.number(), self.tap.line_bytes_max()),
                Read::Tail => break true,
                Read::End => break false,
            }
            self.flush_if_due().await?;
        };
        let exit = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(SourceError::Stopped),
            exit = self.tap.wait() => exit?,
        };
        // The signal that stops us may have reached the tap first, which then "ends well" in the middle.
        if self.stop.is_cancelled() {
            return Err(SourceError::Stopped);
        }
        // Half a line is what a tap that dies leaves; only one that ended well may leave out its last newline.
        if tail && exit.success() {
            self.take_line().await?;
        }
        Ok(exit)
    }

    async fn take_line(&mut self) -> Result<(), SourceError> {
        match self.follow.take(self.tap.line(), self.tap.number())? {
            Taken::State if self.follow.waiting() >= PAGE_ITEMS_AT_STATE => self.flush().await,
            Taken::Nothing | Taken::State => Ok(()),
            Taken::Batch(files) => {
                for file in files {
                    self.take_batch(&file).await?;
                }
                Ok(())
            }
        }
    }

    /// The raw records of one batch file, which is removed then: it holds personal data and nobody reads it again (a
    /// run that is repeated writes its own).
    async fn take_batch(&mut self, path: &std::path::Path) -> Result<(), SourceError> {
        let number = self.tap.number();
        let unreadable =
            |action: &'static str| move |source| SourceError::Unreadable { action, path: path.to_owned(), source };
        let file = tokio::fs::File::open(path).await.map_err(unreadable("open the batch file"))?;
        let mut lines = process::LineReader::new(file, self.tap.line_bytes_max());
        loop {
            match lines.next().await.map_err(unreadable("read the batch file"))? {
                Read::Line | Read::Tail => self.follow.raw_record(lines.line(), number),
                Read::TooLong => self.follow.too_long(number, self.tap.line_bytes_max()),
                Read::End => break,
            }
            self.flush_if_due().await?;
        }
        tokio::fs::remove_file(path).await.map_err(unreadable("remove the batch file"))
    }

    async fn flush_if_due(&mut self) -> Result<(), SourceError> {
        if self.follow.is_full() || self.due.is_some_and(|due| due <= Instant::now()) {
            return self.flush().await;
        }
        if self.due.is_none() && self.follow.is_waiting() {
            self.due = Some(Instant::now() + PAGE_AGE_MAX);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), SourceError> {
        self.due = None;
        if let Some(page) = self.follow.take_page() {
            page::send(self.pages, page, self.stop).await?;
            // The tap was held up by us meanwhile; its silence does not count.
            self.tap.touch();
        }
        Ok(())
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The digits of a stream's version, and whether the state that was passed in already knew it.
fn is_known_version(cursor: Option<&Cursor>, version: &str) -> bool {
    cursor.is_some_and(|cursor| cursor.as_text().contains(version))
}
