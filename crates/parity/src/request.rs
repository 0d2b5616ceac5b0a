//! Builds the request messages of key-value, transaction and watch commands from script lines.

use crate::script::Line;
use bytes::Bytes;
use cetera_proto::etcdserverpb as pb;
use std::collections::{BTreeMap, VecDeque};

/// Names a script gave to lease ids the server chose (`as=x`, later `$x`).
pub type Names = BTreeMap<String, i64>;

/// The arguments of one line. Every `take` consumes; [`Args::finish`] refuses what is left, so a
/// misspelt option is an error and not an untested script.
pub struct Args<'a> {
    names: &'a Names,
    positional: VecDeque<Bytes>,
    named: Vec<(String, Bytes)>,
    flags: Vec<String>,
}

impl<'a> Args<'a> {
    /// The words of `line` after the first `skip`; a bare word in `flags` is a flag.
    pub fn new(line: &Line, skip: usize, flags: &[&str], names: &'a Names) -> Args<'a> {
        let mut args = Args { names, positional: VecDeque::new(), named: Vec::new(), flags: Vec::new() };
        for word in line.words.iter().skip(skip) {
            let text = std::str::from_utf8(&word.value).unwrap_or("");
            match &word.name {
                Some(name) => args.named.push((name.clone(), word.value.clone())),
                None if !word.quoted && flags.contains(&text) => args.flags.push(text.to_owned()),
                None => args.positional.push_back(word.value.clone()),
            }
        }
        args
    }

    pub fn optional(&mut self) -> Option<Bytes> {
        self.positional.pop_front()
    }

    pub fn required(&mut self, what: &str) -> Result<Bytes, String> {
        self.optional().ok_or_else(|| format!("{what} is missing"))
    }

    pub fn required_text(&mut self, what: &str) -> Result<String, String> {
        text(&self.required(what)?)
    }

    pub fn required_number(&mut self, what: &str) -> Result<i64, String> {
        let value = self.required(what)?;
        self.parse(what, &value)
    }

    pub fn named(&mut self, name: &str) -> Option<Bytes> {
        let at = self.named.iter().position(|(n, _)| n == name)?;
        Some(self.named.remove(at).1)
    }

    pub fn named_text(&mut self, name: &str) -> Result<Option<String>, String> {
        self.named(name).map(|value| text(&value)).transpose()
    }

    /// The number after `name=`, 0 if it is not given.
    pub fn number(&mut self, name: &str) -> Result<i64, String> {
        match self.named(name) {
            Some(value) => self.parse(name, &value),
            None => Ok(0),
        }
    }

    pub fn flag(&mut self, name: &str) -> bool {
        let at = self.flags.iter().position(|f| f == name);
        at.map(|at| self.flags.remove(at)).is_some()
    }

    /// All remaining `name=value` pairs.
    pub fn rest(&mut self) -> Vec<(String, Bytes)> {
        std::mem::take(&mut self.named)
    }

    pub fn finish(self) -> Result<(), String> {
        let words = self.positional.iter().map(|b| crate::words::show(b));
        let named = self.named.into_iter().map(|(name, _)| format!("{name}="));
        let left: Vec<_> = words.chain(named).chain(self.flags).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("not understood: {}", left.join(" "))) }
    }

    fn parse(&self, what: &str, value: &Bytes) -> Result<i64, String> {
        let text = text(value)?;
        match text.strip_prefix('$') {
            Some(name) => self.names.get(name).copied().ok_or_else(|| format!("no lease ${name}")),
            None => text.parse().map_err(|_| format!("{what} wants a number, not {text}")),
        }
    }
}

fn text(value: &Bytes) -> Result<String, String> {
    String::from_utf8(value.to_vec()).map_err(|_| "not text".to_owned())
}

/// `put KEY [VALUE] [fill=BYTES] [lease=ID] [prev_kv] [ignore_value] [ignore_lease]`
pub fn put(line: &Line, names: &Names) -> Result<pb::PutRequest, String> {
    let mut args = Args::new(line, 1, &["prev_kv", "ignore_value", "ignore_lease"], names);
    let key = args.required("key")?;
    let fill = usize::try_from(args.number("fill")?).map_err(|e| e.to_string())?;
    let value = args.optional().unwrap_or_else(|| vec![b'x'; fill].into());
    let request = pb::PutRequest {
        key,
        value,
        lease: args.number("lease")?,
        prev_kv: args.flag("prev_kv"),
        ignore_value: args.flag("ignore_value"),
        ignore_lease: args.flag("ignore_lease"),
    };
    args.finish().map(|()| request)
}

/// `range KEY [END] [prefix] [rev=] [limit=] [sort=TARGET:ORDER] [min_mod=] [max_mod=]
/// [min_create=] [max_create=] [keys_only] [count_only] [serializable]`, and the flags in `more`
/// which the caller takes care of.
pub fn range(line: &Line, names: &Names, more: &[&str]) -> Result<pb::RangeRequest, String> {
    let known = ["prefix", "keys_only", "count_only", "serializable"];
    let mut args = Args::new(line, 1, &[&known[..], more].concat(), names);
    let key = args.required("key")?;
    let (sort_target, sort_order) = match args.named_text("sort")? {
        Some(sort) => parse_sort(&sort)?,
        None => (0, 0),
    };
    let request = pb::RangeRequest {
        range_end: range_end(&key, &mut args),
        key,
        limit: args.number("limit")?,
        revision: args.number("rev")?,
        sort_order,
        sort_target,
        serializable: args.flag("serializable"),
        keys_only: args.flag("keys_only"),
        count_only: args.flag("count_only"),
        min_mod_revision: args.number("min_mod")?,
        max_mod_revision: args.number("max_mod")?,
        min_create_revision: args.number("min_create")?,
        max_create_revision: args.number("max_create")?,
    };
    for flag in more {
        args.flag(flag);
    }
    args.finish().map(|()| request)
}

/// `delete KEY [END] [prefix] [prev_kv]`
pub fn delete(line: &Line, names: &Names) -> Result<pb::DeleteRangeRequest, String> {
    let mut args = Args::new(line, 1, &["prefix", "prev_kv"], names);
    let key = args.required("key")?;
    let range_end = range_end(&key, &mut args);
    let request = pb::DeleteRangeRequest { key, range_end, prev_kv: args.flag("prev_kv") };
    args.finish().map(|()| request)
}

/// The second positional argument, or with the flag `prefix` the end that covers the prefix.
fn range_end(key: &Bytes, args: &mut Args<'_>) -> Bytes {
    if args.flag("prefix") {
        return prefix_end(key);
    }
    args.optional().unwrap_or_default()
}

/// The smallest key greater than every key that starts with `prefix`; `\0` if there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

fn parse_sort(text: &str) -> Result<(i32, i32), String> {
    let (target, order) = text.split_once(':').ok_or("sort wants TARGET:ORDER")?;
    let target = match target {
        "key" => 0,
        "version" => 1,
        "create" => 2,
        "mod" => 3,
        "value" => 4,
        number => number.parse().map_err(|_| format!("unknown sort target {number}"))?,
    };
    let order = match order {
        "none" => 0,
        "asc" => 1,
        "desc" => 2,
        number => number.parse().map_err(|_| format!("unknown sort order {number}"))?,
    };
    Ok((target, order))
}

/// ```text
/// txn
///   if
///     COMPARE..
///   then
///     put.. | range.. | delete.. | txn.. | empty
///   else
///     ..
/// ```
pub fn txn(line: &Line, names: &Names) -> Result<pb::TxnRequest, String> {
    let mut request = pb::TxnRequest::default();
    for section in &line.children {
        let lines = &section.children;
        match section.name() {
            "if" => request.compare = compares(lines, names)?,
            "then" => request.success = ops(lines, names)?,
            "else" => request.failure = ops(lines, names)?,
            other => return Err(format!("a txn has no section {other}")),
        }
    }
    Ok(request)
}

/// The compares; `repeat N COMPARE` works as for operations.
fn compares(lines: &[Line], names: &Names) -> Result<Vec<pb::Compare>, String> {
    let mut result = Vec::new();
    for line in lines {
        match repeated(line)? {
            Some(copies) => result.extend(compares(&copies, names)?),
            None => result.push(compare(line, names).map_err(|e| format!("line {}: {e}", line.number))?),
        }
    }
    Ok(result)
}

/// The operations; `repeat N OP` writes one operation N times with `{i}` replaced.
fn ops(lines: &[Line], names: &Names) -> Result<Vec<pb::RequestOp>, String> {
    let mut result = Vec::new();
    for line in lines {
        match repeated(line)? {
            Some(copies) => result.extend(ops(&copies, names)?),
            None => result.push(op(line, names).map_err(|e| format!("line {}: {e}", line.number))?),
        }
    }
    Ok(result)
}

fn op(line: &Line, names: &Names) -> Result<pb::RequestOp, String> {
    use pb::request_op::Request;
    let request = match line.name() {
        "put" => Some(Request::RequestPut(put(line, names)?)),
        "range" => Some(Request::RequestRange(range(line, names, &[])?)),
        "delete" => Some(Request::RequestDeleteRange(delete(line, names)?)),
        "txn" => Some(Request::RequestTxn(txn(line, names)?)),
        "empty" => None,
        other => return Err(format!("a txn has no operation {other}")),
    };
    Ok(pb::RequestOp { request })
}

/// `TARGET KEY [end=END] OPERATOR [VALUE]` with target value, version, create, mod or lease and
/// operator `==`, `!=`, `<`, `>`. Without VALUE the request carries no value at all.
fn compare(line: &Line, names: &Names) -> Result<pb::Compare, String> {
    use pb::compare::TargetUnion;
    let mut args = Args::new(line, 1, &[], names);
    let key = args.required("key")?;
    let range_end = args.named("end").unwrap_or_default();
    let operator = args.required_text("operator")?;
    let result = match operator.as_str() {
        "==" => 0,
        ">" => 1,
        "<" => 2,
        "!=" => 3,
        number => number.parse().map_err(|_| format!("unknown operator {number}"))?,
    };
    let operand = args.optional();
    let number = operand.as_ref().map(|value| args.parse("compare", value));
    let (target, target_union) = match line.name() {
        "version" => (0, number.transpose()?.map(TargetUnion::Version)),
        "create" => (1, number.transpose()?.map(TargetUnion::CreateRevision)),
        "mod" => (2, number.transpose()?.map(TargetUnion::ModRevision)),
        "value" => (3, operand.map(TargetUnion::Value)),
        "lease" => (4, number.transpose()?.map(TargetUnion::Lease)),
        other => return Err(format!("unknown compare target {other}")),
    };
    args.finish()?;
    Ok(pb::Compare { result, target, key, range_end, target_union })
}

/// `watch NAME KEY [END] [prefix] [rev=] [id=] [filters=noput,nodelete] [prev_kv] [fragment]
/// [progress] [on=STREAM]`: the create request, without NAME and `on`.
pub fn watch(line: &Line, names: &Names) -> Result<pb::WatchCreateRequest, String> {
    let mut args = Args::new(line, 2, &["prefix", "prev_kv", "fragment", "progress"], names);
    args.named("on");
    let key = args.required("key")?;
    let mut filters = Vec::new();
    for filter in args.named_text("filters")?.unwrap_or_default().split(',').filter(|f| !f.is_empty()) {
        filters.push(match filter {
            "noput" => 0,
            "nodelete" => 1,
            number => number.parse().map_err(|_| format!("unknown filter {number}"))?,
        });
    }
    let request = pb::WatchCreateRequest {
        range_end: range_end(&key, &mut args),
        key,
        start_revision: args.number("rev")?,
        progress_notify: args.flag("progress"),
        filters,
        prev_kv: args.flag("prev_kv"),
        watch_id: args.number("id")?,
        fragment: args.flag("fragment"),
    };
    args.finish().map(|()| request)
}

/// Times one line may be repeated.
const REPEATED_MAX: usize = 100_000;

/// For a `repeat N COMMAND` line its N copies, `{i}` replaced by 00000, 00001, ...
pub fn repeated(line: &Line) -> Result<Option<Vec<Line>>, String> {
    if line.name() != "repeat" {
        return Ok(None);
    }
    let count = line.words.get(1).map(|w| text(&w.value)).transpose()?.unwrap_or_default();
    let count: usize = count.parse().map_err(|_| "repeat wants a number")?;
    if count > REPEATED_MAX {
        return Err(format!("repeat {count} is more than {REPEATED_MAX}"));
    }
    let body = Line { words: line.words[2..].to_vec(), ..line.clone() };
    Ok(Some((0..count).map(|at| body.with_index(&format!("{at:05}"))).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;
    use std::path::Path;

    fn line(text: &str) -> Line {
        let script = Script::parse(Path::new("x"), text).unwrap();
        script.blocks[0].commands[0].clone()
    }

    #[test]
    fn flags_are_not_positional_and_unknown_words_are_refused() {
        let names = Names::from([("l".to_owned(), 77)]);
        let request = put(&line("put a 1 lease=$l prev_kv"), &names).unwrap();
        assert_eq!((&request.value[..], request.lease, request.prev_kv), (&b"1"[..], 77, true));
        assert!(put(&line("put a 1 2"), &names).is_err());
        assert!(put(&line("put a lease=$other"), &names).is_err());
        assert!(range(&line("range a limt=3"), &names, &[]).is_err());
        let request = range(&line("range a keys_only sort=mod:desc"), &names, &[]).unwrap();
        assert_eq!((request.range_end.len(), request.sort_target, request.sort_order), (0, 3, 2));
        assert!(request.keys_only);
    }

    #[test]
    fn a_txn_nests_and_repeats() {
        let text = "txn\n  if\n    value a != x\n    mod a end=c > 3\n  then\n    repeat 3 put k{i} v\n    txn\n      \
                    else\n        delete z\n";
        let request = txn(&line(text), &Names::new()).unwrap();
        assert_eq!((request.compare.len(), request.success.len()), (2, 4));
        assert_eq!(request.compare[1].range_end, "c");
        let Some(pb::request_op::Request::RequestPut(put)) = &request.success[2].request else { panic!("a put") };
        assert_eq!(put.key, "k00002");
    }

    #[test]
    fn prefix_ends() {
        assert_eq!(prefix_end(b"ab"), "ac");
        assert_eq!(prefix_end(b"a\xff"), "b");
        assert_eq!(prefix_end(b"\xff"), "\0");
    }
}
