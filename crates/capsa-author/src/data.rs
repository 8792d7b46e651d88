//! The constants of a guest: one data segment, laid out as they are asked for.
//!
//! Invariant: the same text, list or table stands in the segment once, and its address does not
//! change when more is added.

use std::collections::BTreeMap;

use crate::wat::comment;

/// A data segment that grows.
pub(crate) struct Data {
    start: u32,
    /// What stands where: its bytes, and what a reader is told about them.
    entries: Vec<(Vec<u8>, String)>,
    addresses: BTreeMap<Vec<u8>, u32>,
    end: u32,
}

impl Data {
    /// An empty segment that starts at an address.
    pub(crate) fn at(start: u32) -> Self {
        Self { start, entries: Vec::new(), addresses: BTreeMap::new(), end: start }
    }

    /// A text: its length (one byte), then its bytes.
    pub(crate) fn text(&mut self, text: &str) -> u32 {
        self.add(counted(text), format!("{:?}", comment(text)))
    }

    /// A list of texts, ended by an empty one.
    pub(crate) fn list(&mut self, texts: &[&str]) -> u32 {
        let mut bytes: Vec<u8> = texts.iter().flat_map(|text| counted(text)).collect();
        bytes.push(0);
        let shown: Vec<String> = texts.iter().map(|text| comment(text)).collect();
        let list = self.add(bytes, format!("list: {}", shown.join(", ")));
        let mut at = list;
        for text in texts {
            let counted = counted(text);
            let length = counted.len() as u32;
            self.addresses.entry(counted).or_insert(at);
            at += length;
        }
        list
    }

    /// A number's bucket edges, then its labels, each as its length (two bytes) and its bytes.
    pub(crate) fn buckets(&mut self, edges: &[f64], labels: &[String]) -> u32 {
        let mut bytes: Vec<u8> = edges.iter().flat_map(|edge| edge.to_le_bytes()).collect();
        for label in labels {
            let length = u16::try_from(label.len()).expect("a decimal of an f64 has at most 1,100 bytes");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(label.as_bytes());
        }
        self.add(bytes, format!("buckets: {}", labels.join(", ")))
    }

    /// How `%`, `o`, `u` and `|` are escaped: by bits 3 and 4 of the byte, 4 bytes each.
    pub(crate) fn escapes(&mut self) -> u32 {
        let bytes = ["%25", "%6F", "%75", "%7C"].iter().flat_map(|escape| counted(escape)).collect();
        self.add(bytes, "escapes".to_owned())
    }

    /// The choices that `frame` answers: of each, only the strategy's name is constant.
    pub(crate) fn choices(&mut self, strategies: &[&str], record_bytes: u32) -> u32 {
        let mut bytes = Vec::new();
        for (at, strategy) in strategies.iter().enumerate() {
            let name = self.text(strategy) + 1;
            bytes.resize(at * record_bytes as usize, 0);
            bytes.extend_from_slice(&name.to_le_bytes());
            bytes.extend_from_slice(&(strategy.len() as u32).to_le_bytes());
        }
        let gap = self.end.next_multiple_of(4) - self.end;
        self.push(vec![0; gap as usize], "alignment".to_owned());
        self.push(bytes, "choices".to_owned())
    }

    fn add(&mut self, bytes: Vec<u8>, note: String) -> u32 {
        if let Some(&address) = self.addresses.get(&bytes) {
            return address;
        }
        let address = self.push(bytes.clone(), note);
        self.addresses.insert(bytes, address);
        address
    }

    fn push(&mut self, bytes: Vec<u8>, note: String) -> u32 {
        let address = self.end;
        self.end += bytes.len() as u32;
        if !bytes.is_empty() {
            self.entries.push((bytes, note));
        }
        address
    }

    /// The segment as lines of WebAssembly text.
    pub(crate) fn lines(&self) -> String {
        let mut at = self.start;
        let mut out = String::new();
        for (bytes, note) in &self.entries {
            let escaped: String = bytes
                .iter()
                .map(|&byte| match byte {
                    b'"' | b'\\' => format!("\\{byte:02x}"),
                    0x20..=0x7e => char::from(byte).to_string(),
                    _ => format!("\\{byte:02x}"),
                })
                .collect();
            out += &format!("    \"{escaped}\" ;; {at}: {note}\n");
            at += bytes.len() as u32;
        }
        out
    }
}

fn counted(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("names have at most 64 bytes, sentences fewer than 255");
    let mut bytes = vec![length];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
