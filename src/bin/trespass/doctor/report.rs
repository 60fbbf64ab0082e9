//! What was found, for people and for machines.

use std::fmt::Write;

use serde_json::{Map, Value, json};

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Neither good nor bad.
    Note,
    Missing,
}

#[derive(Debug)]
struct Check {
    section: &'static str,
    what: String,
    state: State,
    text: String,
    mend: Vec<String>,
}

/// Everything that was found, in order.
#[derive(Debug)]
pub(crate) struct Report {
    section: &'static str,
    checks: Vec<Check>,
    /// For machines: what the checks say in words.
    facts: Map<String, Value>,
    works: bool,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { section: "", checks: Vec::new(), facts: Map::new(), works: false }
    }

    /// What comes next is about this.
    pub(crate) fn section(&mut self, name: &'static str) {
        self.section = name;
    }

    pub(crate) fn good(&mut self, what: impl Into<String>, text: impl Into<String>) {
        self.push(what.into(), State::Good, text.into(), &[]);
    }

    /// Something to know, with what changes it, if that may be wanted.
    pub(crate) fn note(&mut self, what: impl Into<String>, text: impl Into<String>, mend: &[&str]) {
        self.push(what.into(), State::Note, text.into(), mend);
    }

    /// Something that has to be mended, by these lines.
    pub(crate) fn missing(&mut self, what: impl Into<String>, text: impl Into<String>, mend: &[&str]) {
        self.push(what.into(), State::Missing, text.into(), mend);
    }

    #[cfg(feature = "verbs")]
    pub(crate) fn fact(&mut self, name: &str, value: Value) {
        self.facts.insert(name.to_owned(), value);
    }

    /// Tracks work here.
    #[cfg(feature = "verbs")]
    pub(crate) fn all_is_well(&mut self) {
        self.works = true;
    }

    pub(crate) fn works(&self) -> bool {
        self.works
    }

    fn push(&mut self, what: String, state: State, text: String, mend: &[&str]) {
        let mend = mend.iter().map(|line| (*line).to_owned()).collect();
        self.checks.push(Check { section: self.section, what, state, text, mend });
    }

    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for check in &self.checks {
            if check.section != section {
                section = check.section;
                let _ = writeln!(out, "{section}");
            }
            let mark = match check.state {
                State::Good => "ok     ",
                State::Note => "       ",
                State::Missing => "MISSING",
            };
            let _ = writeln!(out, "  {mark}  {}: {}", check.what, check.text);
            for line in &check.mend {
                let _ = writeln!(out, "               {line}");
            }
        }
        let missing = self.checks.iter().filter(|check| check.state == State::Missing).count();
        let verdict = match (self.works, missing) {
            (true, 0) => "Tracks work here.".to_owned(),
            (true, _) => {
                "Tracks work here, by this device and for this user; see MISSING above for the rest.".to_owned()
            }
            (false, _) => {
                "Tracks do not work here; see MISSING above, and below each the line that mends it.".to_owned()
            }
        };
        let _ = writeln!(out, "\n{verdict}");
        out
    }

    pub(crate) fn json(&self) -> String {
        let checks = self.checks.iter().map(|check| {
            let state = match check.state {
                State::Good => "ok",
                State::Note => "note",
                State::Missing => "missing",
            };
            json!({
                "section": check.section,
                "what": check.what,
                "state": state,
                "text": check.text,
                "mend": check.mend,
            })
        });
        let mut whole = self.facts.clone();
        whole.insert("works".into(), self.works.into());
        whole.insert("built_with_verbs".into(), cfg!(feature = "verbs").into());
        whole.insert("checks".into(), checks.collect());
        format!("{:#}\n", Value::Object(whole))
    }
}
