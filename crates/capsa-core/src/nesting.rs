//! How deep a WebAssembly component holds others, read from the heads of its sections alone.
//!
//! Validators take time that grows with the square of the depth, so this is asked before any of them sees the bytes.

/// Deepest nesting of components and modules that is accepted; toolchains make two or three.
pub const MAX_NESTING: usize = 32;

/// Bytes of the magic number and the version.
const HEADER: usize = 8;
/// How the header of a component goes on behind the magic number.
const COMPONENT: [u8; 4] = [0x0d, 0x00, 0x01, 0x00];
/// Sections of a component that hold a module, and a component.
const INNER: [u8; 2] = [1, 4];

/// Whether components nest in `bytes` deeper than [`MAX_NESTING`]. What is malformed is for a validator to tell.
pub fn nests_too_deep(bytes: &[u8]) -> bool {
    // The ends of the components that are open at a place.
    let mut open = vec![bytes.len()];
    let mut at = match component_body(bytes, 0) {
        Some(body) => body,
        None => return false,
    };
    loop {
        while open.last().is_some_and(|end| at >= *end) {
            open.pop();
        }
        let Some(end) = open.last().copied() else { return false };
        let Some(&id) = bytes.get(at) else { return false };
        let Some((length, content)) = length_at(bytes, at + 1) else { return false };
        let Some(after) = content.checked_add(length).filter(|after| *after <= end) else { return false };
        match component_body(bytes, content) {
            Some(body) if INNER.contains(&id) && body <= after => {
                if open.len() > MAX_NESTING {
                    return true;
                }
                open.push(after);
                at = body;
            }
            _ => at = after,
        }
    }
}

/// Where the sections of a component begin that begins at a place.
fn component_body(bytes: &[u8], at: usize) -> Option<usize> {
    let header = bytes.get(at..at.checked_add(HEADER)?)?;
    (header[..4] == *b"\0asm" && header[4..] == COMPONENT).then_some(at + HEADER)
}

/// A length in LEB128, and where it ends.
fn length_at(bytes: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let mut length = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.get(at)?;
        at += 1;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((length, at));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![id];
        let mut rest = content.len();
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes.extend_from_slice(content);
        bytes
    }

    fn component(sections: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        bytes.extend(sections.concat());
        bytes
    }

    fn nested(depth: usize) -> Vec<u8> {
        let custom = section(0, b"\x04name");
        (0..depth).fold(component(&[]), |inner, _| component(&[custom.clone(), section(4, &inner), custom.clone()]))
    }

    #[test]
    fn what_nests_deeper_than_allowed_is_found_and_nothing_else() {
        assert!(!nests_too_deep(&nested(MAX_NESTING)));
        assert!(nests_too_deep(&nested(MAX_NESTING + 1)));
        assert!(nests_too_deep(&nested(20_000)));
        // Side by side is not inside each other.
        let many: Vec<_> = (0..1000).map(|_| section(4, &nested(3))).collect();
        assert!(!nests_too_deep(&component(&many)));
        // In a custom section, a component is no component.
        let quoted = (0..40).fold(component(&[]), |inner, _| component(&[section(0, &inner)]));
        assert!(!nests_too_deep(&quoted));
    }

    #[test]
    fn what_is_malformed_is_left_to_a_validator() {
        let whole = nested(40);
        for cut in [0, 4, 8, 9, 10, 20] {
            assert!(!nests_too_deep(&whole[..cut]));
        }
        assert!(!nests_too_deep(b"name: router"));
        let endless = [&component(&[])[..], &[4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]].concat();
        assert!(!nests_too_deep(&endless));
    }
}
