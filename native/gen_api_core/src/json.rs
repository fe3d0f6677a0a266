//! How long a text is in JSON.

/// The bytes of a text in JSON, with quotation marks and escapes; none if it is not UTF-8.
#[must_use]
pub fn text_size(text: &[u8]) -> Option<usize> {
    simdutf8::basic::from_utf8(text).ok()?;
    // Two passes that take many bytes at a time; most texts have nothing to escape.
    let control = text.iter().filter(|byte| **byte < 0x20).count();
    let quoted = text
        .iter()
        .filter(|byte| matches!(byte, b'"' | b'\\'))
        .count();
    let escaped = if control == 0 {
        quoted
    } else {
        text.iter().map(|byte| added(*byte)).sum()
    };
    Some(text.len() + escaped + 2)
}

/// What the escape of a byte takes beyond the byte itself: `\n` one more, `\u0001` five.
fn added(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | 8 | 9 | 10 | 12 | 13 => 1,
        0..0x20 => 5,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::text_size;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_size_is_that_of_what_an_encoder_writes(text in "(?s).*") {
            let written = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(text_size(text.as_bytes()), Some(written.len()));
        }
    }

    #[test]
    fn what_is_no_text_has_no_size() {
        assert_eq!(text_size(b"a\xff"), None);
        assert_eq!(text_size("\u{7f}é\u{2028}".as_bytes()), Some(8));
    }
}
