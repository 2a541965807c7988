//! The log: lines to stderr in the form that the reader wants. Never a value of a contact, never a secret: both are
//! types that cannot print.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::MultiProgress;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{FmtSpan, Writer, debug_fn};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{self, LogLevel};
use crate::report::visible;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Time, level, words.
    Text,
    /// One JSON object a line.
    Json,
    /// For the journal: its priority as a prefix, no time.
    Journald,
}

impl LogFormat {
    const fn is_for_programs(self) -> bool {
        match self {
            Self::Text => false,
            Self::Json | Self::Journald => true,
        }
    }
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// What the command line says of the log; it comes before the configuration.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Progress that is drawn on the same terminal: it makes way for each line.
    pub bars: Option<MultiProgress>,
    /// How lines look.
    pub format: Option<LogFormat>,
    /// How many levels more, or less.
    pub verbosity: i16,
    /// Colours are wanted and can be shown.
    pub color: bool,
}

/// The log of this process; the configuration, read later, may still change its look and level.
pub struct Log {
    handle: Handle<BoxedLayer, Registry>,
    wish: Wish,
    is_for_programs: AtomicBool,
}

impl Log {
    /// Starts the log: at first with what the command line says.
    #[must_use]
    pub fn start(wish: Wish) -> Self {
        let first =
            build_layer(wish.format.unwrap_or(LogFormat::Text), level(LevelFilter::INFO, wish.verbosity), &wish);
        let (layer, handle) = reload::Layer::new(first);
        // a second log in one process (a test that calls the command twice) writes to the first one
        let _is_first = tracing_subscriber::registry().with(layer).try_init();
        let is_for_programs = AtomicBool::new(wish.format.is_some_and(LogFormat::is_for_programs));
        Self { handle, wish, is_for_programs }
    }

    /// Whether programs read the log: then a command's failure is one of its lines.
    #[must_use]
    pub fn is_for_programs(&self) -> bool {
        self.is_for_programs.load(Ordering::Relaxed)
    }

    /// Takes over what the configuration says, where the command line says nothing.
    pub fn adopt(&self, log: &config::Log) {
        let format = self.wish.format.unwrap_or(match log.format {
            config::LogFormat::Text => LogFormat::Text,
            config::LogFormat::Json => LogFormat::Json,
            config::LogFormat::Journald => LogFormat::Journald,
        });
        let configured = match log.level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        self.is_for_programs.store(format.is_for_programs(), Ordering::Relaxed);
        let layer = build_layer(format, level(configured, self.wish.verbosity), &self.wish);
        // the log goes on as it was where it cannot be changed any more: the process is ending
        let _changed = self.handle.reload(layer);
    }
}

fn level(base: LevelFilter, verbosity: i16) -> LevelFilter {
    let all = [LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG, LevelFilter::TRACE];
    let place = all.iter().position(|level| *level == base).unwrap_or(2);
    let moved = i16::try_from(place).unwrap_or(2).saturating_add(verbosity).clamp(0, 4);
    all[usize::try_from(moved).unwrap_or(2)]
}

fn build_layer(format: LogFormat, level: LevelFilter, wish: &Wish) -> BoxedLayer {
    let (color, lines) = (wish.color, Lines(wish.bars.clone()));
    // a filter of its own (`with_filter`) cannot be exchanged later; only our own words: what libraries log may hold URLs
    let ours = tracing_subscriber::filter::Targets::new().with_target("reteno_sync", level);
    let layer = tracing_subscriber::fmt::layer().with_writer(lines).with_span_events(FmtSpan::NONE);
    match format {
        LogFormat::Text => ours.and_then(layer.with_ansi(color).with_target(false).fmt_fields(one_line())).boxed(),
        LogFormat::Json => ours.and_then(layer.json().flatten_event(true)).boxed(),
        LogFormat::Journald => {
            ours.and_then(layer.with_ansi(false).event_format(Prefixed).fmt_fields(one_line())).boxed()
        }
    }
}

/// The message and the fields of an event in one line, whatever stands in them: what comes from outside forges no line and
/// does nothing to a terminal.
fn one_line() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    let fields = debug_fn(|writer, field, value| {
        let text = format!("{value:?}");
        let text = visible(&text).replace('\n', "\u{fffd}");
        if field.name() == "message" { write!(writer, "{text}") } else { write!(writer, "{}={text}", field.name()) }
    });
    fields.delimited(" ")
}

/// Standard error, shared with progress bars.
struct Lines(Option<MultiProgress>);

/// One line of the log on its way.
struct Line<'a>(Option<&'a MultiProgress>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self.0.as_ref())
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0 {
            Some(bars) => bars.suspend(|| std::io::stderr().write(bytes)),
            None => std::io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// `<3>words`: what journald takes as the priority of a line (sd-daemon(3)).
struct Prefixed;

impl<S, N> FormatEvent<S, N> for Prefixed
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_comes_from_outside_forges_no_line_and_moves_no_cursor() {
        let hostile = "a\r\n<0>2026-01-01 ERROR forged\u{1b}[2J\u{202e}z\u{2028}";
        let of_journald = {
            let kept = Kept::default();
            let writer = kept.clone();
            let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
            let layer = layer.with_ansi(false).event_format(Prefixed).fmt_fields(one_line());
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                tracing::warn!(source = hostile, name = %hostile, "from {hostile}");
            });
            String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
        };
        assert_eq!(of_journald.matches(['\n', '\r']).collect::<Vec<_>>(), ["\n"], "{of_journald:?}");
        assert!(of_journald.starts_with("<4>from a") && of_journald.contains(" name=a"), "{of_journald:?}");
        for sign in ['\u{1b}', '\u{202e}', '\u{2028}'] {
            assert!(!of_journald.contains(sign), "{of_journald:?}");
        }
    }
}
