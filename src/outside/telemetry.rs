//! Logs, to standard error.

use std::{fmt, io::IsTerminal, sync::OnceLock};

use clap::ValueEnum;
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_log::NormalizeEvent;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::{JsonFields, Writer},
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    reload::{self, Handle},
    util::SubscriberInitExt,
};

/// Modules of libraries that are silenced at every level. Those of the client log whole replies that cannot be parsed,
/// Secrets included. This program logs their failures itself, once and without quoting replies. That of HTTP/2 logs
/// parts of requests that cannot be parsed, which may hold a token.
const SILENT: [&str; 4] = ["kube_client::client", "kube_runtime::watcher", "h2::server", "h2::frame"];

/// The log levels, from the most silent one on.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The advice in the error about an unknown level.
const RULE: &str = "give off, error, warn, info, debug or trace, or a comma-separated list with levels of modules, \
    such as info,tokenry=debug";

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// Plain text.
    Text,
}

/// The filter of this process, once logging has started.
static FILTER: OnceLock<Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging. `level` is a level such as `info`, or filter directives of tracing's `EnvFilter`.
///
/// # Errors
/// `level` is not a valid filter.
pub fn log(level: &str, format: Format) -> Result<(), String> {
    let filter = parsed(level).map_err(|wrong| format!("--log-level {level}: {wrong}"))?;
    let (filter, handle) = reload::Layer::new(filter);
    let silent = filter::filter_fn(|metadata| !SILENT.iter().any(|module| metadata.target().starts_with(module)));
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        Format::Json => lines.fmt_fields(JsonFields::new()).event_format(Flat).boxed(),
        Format::Text => lines.boxed(),
    };
    // A second call, as in tests within one process, has no effect.
    if tracing_subscriber::registry().with(filter).with(lines.with_filter(silent)).try_init().is_ok() {
        let _ = FILTER.set(handle);
    }
    Ok(())
}

/// The level of the log of this process. `None` before logging has started.
pub fn level() -> Option<String> {
    FILTER.get()?.with_current(ToString::to_string).ok()
}

/// Changes the level of the log of this process, until it ends or the level is changed again. The modules that are
/// silent at every level stay silent.
///
/// # Errors
/// `level` is not a valid filter, or logging has not started.
pub fn set_level(level: &str) -> Result<(), String> {
    let filter = parsed(level)?;
    let before = self::level().unwrap_or_default();
    let handle = FILTER.get().ok_or("logging has not started")?;
    handle.reload(filter).map_err(|error| error.to_string())?;
    tracing::warn!(before, now = level, "the log level was changed");
    Ok(())
}

/// Logs the start of a process: its release, its scope and its permissions.
pub fn starts(program: &str, scope: &impl fmt::Display, permissions: &str, waits_for: &str) {
    tracing::info!(program, version = env!("CARGO_PKG_VERSION"), %scope, permissions, waits_for, "starting");
}

/// Parses a filter. The library takes an unknown word for the name of a module, and then silences all other modules.
/// values.schema.json of the chart has the same rule.
fn parsed(level: &str) -> Result<EnvFilter, String> {
    let odd = level.split(',').find(|part| match part.rsplit_once('=') {
        Some((of, level)) => !names_a_module(of) || !LEVELS.contains(&level),
        None => !LEVELS.contains(part),
    });
    let wrong = |part: &str| format!("{part:?} is no level; {RULE}");
    match odd {
        Some(odd) => Err(wrong(odd)),
        // A pattern for the fields of a span could cost any memory.
        None => EnvFilter::builder().with_regex(false).parse(level).map_err(|_| wrong(level)),
    }
}

/// True if `of` is the path of a module. A span in brackets may follow the path, or stand alone.
fn names_a_module(of: &str) -> bool {
    let path = of.split('[').next().unwrap_or_default();
    path.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | ':' | '_'))
}

/// The names that a line has by itself. A library's field of such a name is written as `field.NAME`.
const OWN: [&str; 3] = ["timestamp", "level", "target"];

/// Writes one flat JSON object per line. It has the fields of the event and of the spans around it. A record of the
/// `log` crate has the target of its library, like any event.
struct Flat;

impl<S, N> FormatEvent<S, N> for Flat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (mut time, logged) = (String::new(), event.normalized_metadata());
        let meta = logged.as_ref().unwrap_or_else(|| event.metadata());
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Map::new();
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let said = extensions.get::<FormattedFields<N>>().map_or("", |said| said.fields.as_str());
            let said = serde_json::from_str::<Map<String, Value>>(said).unwrap_or_default();
            said.into_iter().for_each(|(name, value)| _ = fields.entry(name).or_insert(value));
        }
        event.record(&mut Fields(&mut fields));
        // These name the library again, and a path on the machine that built it.
        fields.retain(|name, _| logged.is_none() || !name.starts_with("log."));
        let message = fields.remove("message").unwrap_or_default();
        let level = meta.level().as_str();
        let head = [("timestamp", time.into()), ("level", level.into()), ("message", message)];
        let rest = [("target", Value::from(meta.target()))];
        let head = head.into_iter().map(|(name, value)| (name.to_owned(), value));
        let rest = rest.into_iter().map(|(name, value)| (name.to_owned(), value));
        let fields = fields.into_iter().map(|(name, value)| (apart(name), value));
        let all: Vec<_> = head.chain(fields).chain(rest).map(written).collect();
        writeln!(writer, "{{{}}}", all.join(","))
    }
}

/// The name under which a field is written.
fn apart(name: String) -> String {
    if OWN.contains(&&*name) { format!("field.{name}") } else { name }
}

/// A field in JSON.
fn written((name, value): (String, Value)) -> String {
    format!("{}:{value}", Value::from(name))
}

/// Collects the fields of an event.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
#[path = "../../tests/shared/levels.rs"]
mod levels;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    #[test]
    fn a_word_that_is_no_level_is_refused_as_it_would_silence_everything() {
        for good in levels::GOOD {
            assert!(parsed(good).is_ok(), "{good}");
        }
        for bad in levels::BAD {
            let told = parsed(bad).unwrap_err();
            assert!(told.ends_with(RULE), "{told}");
            assert_eq!(log(bad, Format::Json), Err(format!("--log-level {bad}: {told}")));
            assert_eq!(set_level(bad), Err(told));
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The line that `act` logs, and its fields without the time.
    fn logged(act: impl FnOnce()) -> (String, Value) {
        let lines = Lines::default();
        let to = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || to.clone());
        let layer = layer.fmt_fields(JsonFields::new()).event_format(Flat);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), act);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(
            text.starts_with("{\"timestamp\":\"20") && text.ends_with("}\n") && text.lines().count() == 1,
            "{text}"
        );
        let mut said: Value = serde_json::from_str(&text).unwrap();
        said.as_object_mut().unwrap().remove("timestamp");
        (text, said)
    }

    #[test]
    fn a_record_of_the_log_crate_is_of_its_library_and_of_the_object_of_the_pass() {
        use tracing_log::log::{Level, Record};
        let (_, said) = logged(|| {
            let pass = tracing::error_span!("pass", kind = "ApiToken", namespace = "a", name = "ci", reconcileID = 7);
            let _in_pass = pass.enter();
            let mut record = Record::builder();
            record.target("rustls::conn").level(Level::Warn).module_path(Some("rustls::conn"));
            record.file(Some("/build/rustls/src/conn.rs")).line(Some(12));
            tracing_log::format_trace(&record.args(format_args!("no room")).build()).unwrap();
        });
        let wanted = serde_json::json!({
            "level": "WARN", "message": "no room", "target": "rustls::conn",
            "kind": "ApiToken", "namespace": "a", "name": "ci", "reconcileID": 7,
        });
        assert_eq!(said, wanted);
    }

    #[test]
    fn no_field_takes_the_name_of_what_a_line_has_by_itself() {
        let (text, said) = logged(|| tracing::info!(level = 3, target = "door", timestamp = "then", "done"));
        for name in OWN {
            assert_eq!(text.matches(&format!("\"{name}\":")).count(), 1, "{text}");
        }
        let wanted = serde_json::json!({
            "level": "INFO", "message": "done", "target": "tokenry::outside::telemetry::tests",
            "field.level": 3, "field.target": "door", "field.timestamp": "then",
        });
        assert_eq!(said, wanted);
    }

    #[test]
    fn a_line_is_one_flat_object_with_what_the_spans_around_it_say() {
        let (_, said) = logged(|| {
            let outer = tracing::info_span!("outer", name = "outer", reconcileID = 7);
            let _in_outer = outer.enter();
            let _in_inner = tracing::info_span!("inner", name = "ci").entered();
            tracing::warn!(count = 2, ready = false, less = -1, shown = %"a \"b\"", "done");
        });
        let wanted = serde_json::json!({
            "level": "WARN", "message": "done", "target": "tokenry::outside::telemetry::tests", "name": "ci",
            "reconcileID": 7, "count": 2, "ready": false, "less": -1, "shown": "a \"b\"",
        });
        assert_eq!(said, wanted, "nothing is nested, and the inner span counts");
    }
}
