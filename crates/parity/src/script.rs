//! The file format of a script, and nothing about its commands.
//!
//! ```text
//! # A sentence or two on the behaviour.
//! # rows: KV-13, KV-14
//! # flags: --max-txn-ops=8
//!
//! # A comment.
//! put a 1
//! put a 2 prev_kv
//! ---
//! put rev=2
//! put rev=3
//!   prev a = 1 create=2 mod=2 version=1
//! ```
//!
//! A block is a group of commands, `---`, and the recorded output up to the next empty line. A
//! line indented deeper belongs to the command above it. `rows` names the contract rows the script
//! covers, `flags` adds command line flags to the server.

use crate::words::{self, Word};
use bytes::Bytes;
use std::path::{Path, PathBuf};

/// A whole script.
#[derive(Debug)]
pub struct Script {
    /// Where it was read from.
    pub path: PathBuf,
    /// Contract rows named by its `# rows:` line.
    pub rows: Vec<String>,
    /// Extra server flags from its `# flags:` line.
    pub flags: Vec<String>,
    /// Its blocks, in order.
    pub blocks: Vec<Block>,
}

/// Commands and the output they gave when recorded.
#[derive(Debug)]
pub struct Block {
    /// The lines before `---` as written: comments and empty lines too.
    pub source: String,
    /// The same, parsed.
    pub commands: Vec<Line>,
    /// The recorded output, each line ended by a newline.
    pub output: String,
}

/// A command and the lines that belong to it.
#[derive(Clone, Debug)]
pub struct Line {
    /// Line number in the file, from 1.
    pub number: usize,
    pub words: Vec<Word>,
    pub children: Vec<Line>,
}

impl Line {
    /// The first word as text: the command's name.
    pub fn name(&self) -> &str {
        let first = self.words.first().filter(|w| w.name.is_none());
        first.and_then(|w| std::str::from_utf8(&w.value).ok()).unwrap_or("")
    }

    /// This line with `{i}` in every word replaced by `text`.
    pub fn with_index(&self, text: &str) -> Line {
        let words = self.words.iter().map(|w| Word { value: replace(&w.value, text), ..w.clone() });
        Line {
            number: self.number,
            words: words.collect(),
            children: self.children.iter().map(|c| c.with_index(text)).collect(),
        }
    }
}

fn replace(value: &Bytes, text: &str) -> Bytes {
    match std::str::from_utf8(value) {
        Ok(utf8) if utf8.contains("{i}") => utf8.replace("{i}", text).into(),
        _ => value.clone(),
    }
}

impl Script {
    /// Reads and parses a file. The error names the file and line.
    pub fn load(path: &Path) -> Result<Script, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Script::parse(path, &text)
    }

    /// Parses the text of a script.
    pub fn parse(path: &Path, text: &str) -> Result<Script, String> {
        let mut script = Script { path: path.to_owned(), rows: Vec::new(), flags: Vec::new(), blocks: Vec::new() };
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line)).peekable();
        while lines.peek().is_some() {
            let (mut source, mut body, mut output) = (String::new(), Vec::new(), String::new());
            let mut recorded = false;
            for (number, line) in lines.by_ref() {
                if line == "---" {
                    recorded = true;
                    break;
                }
                source.push_str(line);
                source.push('\n');
                script.header(line);
                if !line.trim().is_empty() && !line.starts_with('#') {
                    body.push((number, line));
                }
            }
            if recorded {
                for (_, line) in lines.by_ref().take_while(|(_, line)| !line.is_empty()) {
                    output.push_str(line);
                    output.push('\n');
                }
            }
            let commands = tree(&body).map_err(|e| format!("{}: {e}", path.display()))?;
            script.blocks.push(Block { source, commands, output });
        }
        Ok(script)
    }

    fn header(&mut self, line: &str) {
        if let Some(rows) = line.strip_prefix("# rows:") {
            self.rows.extend(rows.split(',').map(|r| r.trim().to_owned()));
        }
        if let Some(flags) = line.strip_prefix("# flags:") {
            self.flags.extend(flags.split_whitespace().map(str::to_owned));
        }
    }

    /// The script as text with these outputs, one per block.
    pub fn render(&self, outputs: &[String]) -> String {
        assert_eq!(self.blocks.len(), outputs.len(), "one output per block");
        let mut text = String::new();
        for (block, output) in self.blocks.iter().zip(outputs) {
            text.push_str(&block.source);
            if !block.commands.is_empty() {
                text.push_str(&format!("---\n{output}\n"));
            }
        }
        format!("{}\n", text.trim_end())
    }

    /// The script as text with its recorded outputs.
    pub fn recorded(&self) -> String {
        let outputs: Vec<_> = self.blocks.iter().map(|b| b.output.clone()).collect();
        self.render(&outputs)
    }
}

/// Builds the tree that the indentation shows.
fn tree(lines: &[(usize, &str)]) -> Result<Vec<Line>, String> {
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let mut result = Vec::new();
    let mut rest = lines;
    while let Some((&(number, line), after)) = rest.split_first() {
        if indent(line) != indent(lines[0].1) {
            return Err(format!("line {number}: indentation fits no line above"));
        }
        let deeper = after.iter().take_while(|(_, l)| indent(l) > indent(line)).count();
        let words = words::split(line).map_err(|e| format!("line {number}: {e}"))?;
        result.push(Line { number, words, children: tree(&after[..deeper])? });
        rest = &after[deeper..];
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# About.\n# rows: KV-1, TX-2\n# flags: --x=1 --y\n\nput a 1\ntxn\n  then\n    put b 2\n  \
                        else\n---\nput rev=2\n  more\n\n# Next.\nrange a\n---\nrange rev=2\n";

    #[test]
    fn parses_and_renders_back() {
        let script = Script::parse(Path::new("x"), TEXT).unwrap();
        assert_eq!(script.rows, ["KV-1", "TX-2"]);
        assert_eq!(script.flags, ["--x=1", "--y"]);
        assert_eq!(script.blocks.len(), 2);
        let first = &script.blocks[0];
        assert_eq!(first.output, "put rev=2\n  more\n");
        assert_eq!(first.commands[1].children[0].children[0].name(), "put");
        assert_eq!(first.commands[1].children[1].name(), "else");
        assert_eq!(script.recorded(), TEXT);
    }

    #[test]
    fn an_unrecorded_script_gets_its_outputs() {
        let script = Script::parse(Path::new("x"), "put a 1\n").unwrap();
        assert_eq!(script.render(&["ok\n".to_owned()]), "put a 1\n---\nok\n");
    }

    #[test]
    fn odd_indentation_is_refused() {
        let error = Script::parse(Path::new("x"), "txn\n    then\n  else\n").unwrap_err();
        assert!(error.contains("line 3"), "{error}");
    }
}
