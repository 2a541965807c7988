//! The lowest layer: the default of every key that has one, as TOML. Keys that are absent here are optional or
//! required; `reteno`'s three URLs follow from its `brand`.

use toml::{Table, Value};

use crate::source::presets;

/// The defaults of all sections but `[source.NAME]`. `config.example.toml` tells what each number protects.
const SECTIONS: &str = r#"
state_dir = "/var/lib/reteno-sync"
shutdown_timeout = "30s"

[reteno]
brand = "reteno"
client_auth = "basic"
redirect_uri = "http://127.0.0.1:8400/callback"
requests_per_second = 100
dedupe_on = "externalCustomerId"
restore_deleted = "never"
restore_deleted_in_full_reads = false
new_contacts_event_in_full_reads = false
batch_contacts_max = 3000
batch_bytes_max = "4MiB"
posts_in_flight = 8
import_age_max = "6h"
import_poll_first = "2s"
import_poll_max = "60s"
connect_timeout = "10s"
read_timeout = "60s"
request_timeout = "120s"

[listen]
address = "127.0.0.1:8400"
public_address = "off"
names = []

[guard]
enabled = true
delete = { contacts = 500, percent = 5 }
erase = { contacts = 500, percent = 5 }
unsubscribe = { contacts = 500, percent = 5 }
detach = { contacts = 500, percent = 5 }
clear = { contacts = 1000, percent = 5 }
overwrite = { contacts = 5000, percent = 20 }
create = { contacts = 20000, percent = 20 }
mapping = { contacts = 50000, percent = 100 }
resubscribe = { contacts = 100, percent = 1 }
rename = { contacts = 100, percent = 1 }

[identity]
shared_channel = "oldest"
unique = ["email", "sms"]

[upload]
link_lifetime = "6h"

[log]
level = "info"
format = "text"
"#;

/// The defaults of each `[source.NAME]`: those of every kind, then those of one kind.
const SOURCE: &str = r#"
[every]
on_delete = "keep"
quiet_for = "0s"
shares_ids = false
clear_at_first_sight = false

[file]
delimiter = ","
encoding = "utf-8"

[singer]
catalog_argument = "--catalog"
idle_timeout = "10m"
line_bytes_max = "16MiB"
"#;

/// The defaults for a configuration with these sources (name, kind).
pub(super) fn layer(sources: &[(String, Option<String>)]) -> Table {
    let mut layer = parse(SECTIONS);
    let per_source = parse(SOURCE);
    let part = |name: &str| per_source.get(name).and_then(Value::as_table).cloned().unwrap_or_default();
    let tables = sources.iter().map(|(name, kind)| {
        let mut table = part("every");
        // A kind that does not exist has no defaults; that it does not exist is said where `kind` is resolved.
        table.extend(kind.as_deref().filter(|kind| *kind != "every").map(part).unwrap_or_default());
        table.extend(kind.as_deref().and_then(presets::find).map(parse).unwrap_or_default());
        (name.clone(), Value::Table(table))
    });
    layer.insert("source".to_owned(), Value::Table(tables.collect()));
    layer
}

fn parse(text: &str) -> Table {
    text.parse().expect("the embedded defaults are TOML: every test of this module reads them")
}

/// Takes out of `table` what is `false` there and a table in `defaults`: so an operator does without a part of a preset.
pub(super) fn take_away(table: &mut Table, defaults: &Table) {
    for (name, default) in defaults {
        let Value::Table(default) = default else { continue };
        match table.get_mut(name) {
            Some(Value::Boolean(false)) => drop(table.remove(name)),
            Some(Value::Table(inner)) => take_away(inner, default),
            Some(_) | None => {}
        }
    }
}
