//! `get`.

use super::KEY_VALUE;
use crate::cli::{Command, Flag, Invocation};
use crate::connect::Session;
use crate::exit::{BAD_FEATURE, Exit};
use crate::printer::Answer;
use cetera_client::Get;
use cetera_proto::etcdserverpb::range_request::{SortOrder, SortTarget};

pub(super) const COMMAND: Command = Command {
    usage: "get [options] <key> [range_end]",
    short: "Gets the key or a range of keys",
    group: KEY_VALUE,
    flags: &[
        Flag::text("consistency", "l", "Linearizable(l) or Serializable(s)"),
        Flag::text("order", "", "Order of results; ASCEND or DESCEND (ASCEND by default)"),
        Flag::text("sort-by", "", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION"),
        Flag::int("limit", "0", "Maximum number of results"),
        Flag::bool("prefix", "Get keys with matching prefix"),
        Flag::bool("from-key", "Get keys that are greater than or equal to the given key using byte compare"),
        Flag::int("rev", "0", "Specify the kv revision"),
        Flag::bool("keys-only", "Get only the keys"),
        Flag::bool("count-only", "Get only the count"),
        Flag::bool("print-value-only", "Only write values when using the \"simple\" output format"),
        Flag::int("min-create-rev", "0", "Minimum create revision"),
        Flag::int("max-create-rev", "0", "Maximum create revision"),
        Flag::int("min-mod-rev", "0", "Minimum modification revision"),
        Flag::int("max-mod-rev", "0", "Maximum modification revision"),
        Flag::bool("stream", "Use the RangeStream RPC"),
    ],
    run: Some(run),
    ..Command::EMPTY
};

fn run(invocation: &Invocation) -> Result<(), Exit> {
    let get = request(invocation)?;
    let session = Session::open(invocation)?;
    let flags = &invocation.flags;
    let response = session.block_on(async {
        match flags.bool("stream") {
            true => session.client.get_streamed(get).await,
            false => session.client.get(get).await,
        }
    })?;
    if flags.bool("count-only") && !session.format.is_fields() {
        return Err(Exit::bad_args("--count-only is only for `--write-out=fields`"));
    }
    if !flags.bool("print-value-only") {
        return session.show(&Answer::Get(&response));
    }
    if !session.format.is_simple() {
        return Err(Exit::bad_args("print-value-only is only for `--write-out=simple`"));
    }
    session.show(&Answer::Values(&response))
}

/// What the flags and words of a `get` ask for.
pub(super) fn request(invocation: &Invocation) -> Result<Get, Exit> {
    let (flags, args) = (&invocation.flags, &invocation.args);
    let (prefix, from_key) = (flags.bool("prefix"), flags.bool("from-key"));
    if args.is_empty() {
        return Err(Exit::bad_args("get command needs one argument as key and an optional argument as range_end"));
    }
    if prefix && from_key {
        return Err(Exit::bad_args("`--prefix` and `--from-key` cannot be set at the same time, choose one"));
    }
    if flags.bool("keys-only") && flags.bool("count-only") {
        return Err(Exit::bad_args("`--keys-only` and `--count-only` cannot be set at the same time, choose one"));
    }
    let mut get = Get::new(args[0].clone());
    get.0.serializable = is_serializable(flags.text("consistency"))?;
    if let Some(end) = args.get(1) {
        if prefix || from_key {
            let text = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";
            return Err(Exit::bad_args(text));
        }
        get = get.range(end.clone());
    }
    get = get
        .limit(flags.int("limit"))
        .revision(flags.int("rev").max(0))
        .sort(sort_target(flags.text("sort-by"))?, sort_order(flags.text("order"))?);
    if prefix {
        get = get.prefix();
    }
    if from_key {
        get = get.from_key();
    }
    get.0.keys_only = flags.bool("keys-only");
    get.0.count_only = flags.bool("count-only");
    (get.0.min_create_revision, get.0.max_create_revision) = revisions(invocation, "Create", "create")?;
    (get.0.min_mod_revision, get.0.max_mod_revision) = revisions(invocation, "Mod", "mod")?;
    Ok(get)
}

/// `--consistency`.
pub(super) fn is_serializable(consistency: &str) -> Result<bool, Exit> {
    match consistency {
        "s" => Ok(true),
        "l" => Ok(false),
        other => {
            let quoted = crate::go::quote(other.as_bytes());
            Err(Exit::new(BAD_FEATURE, format!("unknown consistency flag {quoted}")))
        }
    }
}

fn sort_order(order: &str) -> Result<SortOrder, Exit> {
    match order.to_uppercase().as_str() {
        "" => Ok(SortOrder::None),
        "ASCEND" => Ok(SortOrder::Ascend),
        "DESCEND" => Ok(SortOrder::Descend),
        _ => Err(Exit::new(BAD_FEATURE, format!("bad sort order {order}"))),
    }
}

fn sort_target(target: &str) -> Result<SortTarget, Exit> {
    match target.to_uppercase().as_str() {
        "" | "KEY" => Ok(SortTarget::Key),
        "CREATE" => Ok(SortTarget::Create),
        "MODIFY" => Ok(SortTarget::Mod),
        "VALUE" => Ok(SortTarget::Value),
        "VERSION" => Ok(SortTarget::Version),
        _ => Err(Exit::new(BAD_FEATURE, format!("bad sort target {target}"))),
    }
}

/// `--min-X-rev` and `--max-X-rev`; what is not above 0 is no bound.
fn revisions(invocation: &Invocation, title: &str, name: &str) -> Result<(i64, i64), Exit> {
    let min = invocation.flags.int(&format!("min-{name}-rev"));
    let max = invocation.flags.int(&format!("max-{name}-rev"));
    if max > 0 && min > max {
        let text = format!("getMin{title}Rev(={min}) > getMax{title}Rev(={max})");
        return Err(Exit::new(BAD_FEATURE, text));
    }
    Ok((min.max(0), max.max(0)))
}
