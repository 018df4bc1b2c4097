//! Bytes as text that a terminal can show and a person can read.

/// Text for bytes that may be anything: what is readable UTF-8 stands as it is, a backslash is
/// doubled, bytes that are not UTF-8 become `\xNN`, and what a terminal would obey or hide becomes
/// an escape such as `\n` or `\u{202e}`.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\'' => text.push(c),
                _ => text.extend(c.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
        _ => None,
    };
    pairs.map(byte).collect()
}

fn nibble(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(escape("caf\u{e9} \"x\"".as_bytes()), "caf\u{e9} \"x\"");
        assert_eq!(escape(b"a\\b\n\x1b[31m"), "a\\\\b\\n\\u{1b}[31m");
        assert_eq!(escape(b"\xff\xd8ok"), "\\xff\\xd8ok");
        assert_eq!(escape("\u{202e}".as_bytes()), "\\u{202e}");
    }

    #[test]
    fn hexadecimal_is_read_back() {
        assert_eq!(unhex(&hex(b"\x00\xff\x7f")).unwrap(), b"\x00\xff\x7f");
        for text in ["f", "0g", "+1", "\u{e9}"] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }
}
