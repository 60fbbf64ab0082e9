//! Frames, field by field: tables of what may stand where, held against the documents of the formats.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::ops::Range;

/// What becomes of whoever hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on, or the peer's goodbye was heard.
    Lives,
    /// It is ended, by kind `Protocol`.
    Nonsense,
    /// By kind `RemoteAccess`: a device was asked for what there is not.
    Denied,
    /// By kind `Refused`.
    Refused,
    /// Nothing is heard: as if the network had lost it.
    Dropped,
}

/// A field of a frame: where it is, how long, and what comes of what stands there.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) at: usize,
    pub(crate) len: usize,
    pub(crate) fate: Box<dyn Fn(u64) -> Fate>,
}

/// One whose other values are nonsense.
pub(crate) fn field(name: &'static str, at: usize, len: usize, may: impl Fn(u64) -> bool + 'static) -> Field {
    fated(name, at, len, move |value| if may(value) { Fate::Lives } else { Fate::Nonsense })
}

pub(crate) fn fated(name: &'static str, at: usize, len: usize, fate: impl Fn(u64) -> Fate + 'static) -> Field {
    Field { name, at, len, fate: Box::new(fate) }
}

impl Field {
    /// What stands there.
    pub(crate) fn read(&self, bytes: &[u8]) -> u64 {
        let mut word = [0; 8];
        word[..self.len].copy_from_slice(&bytes[self.at..self.at + self.len]);
        u64::from_le_bytes(word)
    }

    /// The frame with every value in this field that is at an edge, and each bit of it flipped.
    pub(crate) fn broken(&self, honest: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let value = self.read(honest);
        let most = u64::MAX >> (64 - 8 * self.len);
        let edges = [0, 1, value.wrapping_sub(1), value.wrapping_add(1), most, most - 1, most / 2, most / 2 + 1];
        let flipped = (0..8 * self.len).map(|bit| value ^ (1 << bit));
        let mut values: Vec<u64> = edges.into_iter().chain(flipped).map(|value| value & most).collect();
        values.sort_unstable();
        values.dedup();
        let frame = |value: u64| {
            let mut bytes = honest.to_vec();
            bytes[self.at..self.at + self.len].copy_from_slice(&value.to_le_bytes()[..self.len]);
            bytes
        };
        values.into_iter().map(|value| (value, frame(value))).collect()
    }
}

/// That these fields are all of the bytes in `range`: none is left out, and none is there twice.
pub(crate) fn assert_complete<'a>(what: &str, fields: impl IntoIterator<Item = &'a Field>, range: Range<usize>) {
    let mut places: Vec<(usize, usize, &str)> =
        fields.into_iter().map(|field| (field.at, field.at + field.len, field.name)).collect();
    places.sort_unstable();
    let mut at = range.start;
    for (start, end, name) in places {
        assert_eq!(start, at, "{what}: where {name} begins, after what is in the table before it");
        at = end;
    }
    assert_eq!(at, range.end, "{what}: bytes that are in no row of the table");
}

/// The tables in the documents of a format: rows of cells.
fn rows(source: &str) -> impl Iterator<Item = Vec<&str>> {
    let comments = source.lines().map(str::trim_start).filter(|line| line.starts_with("//"));
    let rows = comments.filter_map(|line| line.trim_start_matches(['/', '!']).trim().strip_prefix('|'));
    rows.map(|row| row.split('|').map(str::trim).collect())
}

/// Where each field is, by the documents: in the tables that have a heading of `bytes`, counted from 0.
pub(crate) fn documented_places(source: &str, table: usize) -> Vec<Range<usize>> {
    let mut tables = 0;
    let mut places = Vec::new();
    let mut inside = false;
    for row in rows(source) {
        match row[0] {
            "bytes" => {
                tables += 1;
                inside = tables == table + 1;
            }
            "kind" => inside = false,
            _ if inside => {
                for cell in row.iter().step_by(2) {
                    let ends: Vec<usize> = cell.split('–').filter_map(|number| number.parse().ok()).collect();
                    if let (Some(first), Some(last)) = (ends.first(), ends.last()) {
                        places.push(*first..last + 1);
                    }
                }
            }
            _ => {}
        }
    }
    places.sort_unstable_by_key(|place| place.start);
    places
}

/// The names of all kinds of frames, by the documents.
pub(crate) fn documented_kinds(source: &str) -> Vec<(u8, String)> {
    let mut kinds = Vec::new();
    for row in rows(source) {
        let numbers: Vec<u8> = row[0].split(',').filter_map(|number| number.trim().parse().ok()).collect();
        let names: Vec<&str> = row.get(1).map(|cell| cell.split(',').map(str::trim).collect()).unwrap_or_default();
        // Rows of kinds have a third cell; those of bytes have none, or more bytes in it.
        if row.len() == 4 && !numbers.is_empty() && numbers.len() == names.len() {
            kinds.extend(numbers.into_iter().zip(names.into_iter().map(String::from)));
        }
    }
    kinds
}

/// What every frame begins with, but for its credits or whatever is in their place.
pub(crate) fn header(kind: u8) -> Vec<Field> {
    vec![
        // Every other kind is tried by tests of their own.
        fated("kind", 0, 1, move |value| if value == u64::from(kind) { Fate::Lives } else { Fate::Nonsense }),
        field("flags", 1, 1, |value| value == 0),
        field("reserved", 2, 2, |value| value == 0),
    ]
}

/// What an end says of itself, from byte 8 on: a carrier of number `carrier`.
pub(crate) fn offer(carrier: u64) -> Vec<Field> {
    let suits = |suits: bool| if suits { Fate::Lives } else { Fate::Refused };
    vec![
        field("magic", 8, 8, |value| value == u64::from_le_bytes(*b"trespass")),
        field("oldest version", 16, 2, |value| value <= 1),
        field("newest version", 18, 2, |value| value >= 1),
        field("length", 20, 2, |value| value == 64),
        fated("carrier", 22, 2, move |value| suits(value == carrier)),
        fated("required", 24, 8, move |value| suits(value == 0)),
        field("optional", 32, 8, |_| true),
        // Eight are said to be posted already.
        fated("window", 40, 4, move |value| suits((8..=1 << 24).contains(&value))),
        // The eager limit of 248 has to fit both.
        field("longest frame", 44, 4, |value| value >= 256),
        field("longest message", 48, 8, |value| value >= 248),
        field("eager limit", 56, 4, |value| value <= 248),
        field("reserved", 60, 4, |_| true),
        field("incarnation", 64, 8, |_| true),
    ]
}

/// What a Refuse has behind its header: there is nothing in it that may not be said.
pub(crate) fn refusal() -> Vec<Field> {
    vec![
        fated("reason", 8, 2, |_| Fate::Refused),
        fated("reserved", 10, 6, |_| Fate::Refused),
        fated("value", 16, 8, |_| Fate::Refused),
    ]
}

/// A Refuse, honest.
pub(crate) fn refuse_body() -> Vec<u8> {
    let mut body = vec![0; 16];
    (body[0], body[8]) = (5, 8);
    body
}

/// That a table has these places, and no others.
pub(crate) fn assert_documented<'a>(
    what: &str,
    fields: impl IntoIterator<Item = &'a Field>,
    documented: &[Range<usize>],
) {
    let mut places: Vec<Range<usize>> = fields.into_iter().map(|field| field.at..field.at + field.len).collect();
    places.sort_unstable_by_key(|place| place.start);
    assert_eq!(places, documented, "{what}: what the table has, and what the document of the format has");
}
