//! Addresses as they are counted: one client, one key.
//!
//! `::ffff:1.2.3.4` is the IPv4 address `1.2.3.4` written as IPv6 ([RFC 4291, section 2.5.5.2][1]), and a
//! customer of IPv6 usually has a whole /64 ([RFC 6177][2]) and may send from any address of it.
//!
//! [1]: https://www.rfc-editor.org/rfc/rfc4291#section-2.5.5.2
//! [2]: https://www.rfc-editor.org/rfc/rfc6177

use std::net::{IpAddr, Ipv6Addr};

use crate::bounded::TAGGED;

/// How many bits of an IPv6 address count by default: what one customer usually has.
pub const IPV6_PREFIX: u8 = 64;

/// The key of an address: the same for all its text forms, and for all IPv6 addresses with the same first
/// `prefix` bits. None for a text that is no address.
pub fn key(text: &[u8], prefix: u8) -> Option<Vec<u8>> {
    let mut key = vec![TAGGED];
    match parsed(text)?.to_canonical() {
        IpAddr::V4(address) => key.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => key.extend_from_slice(&masked(address, prefix).octets()),
    }
    Some(key)
}

fn parsed(text: &[u8]) -> Option<IpAddr> {
    // The longest address is 45 characters, the longest name of an interface 15.
    let text = std::str::from_utf8(text)
        .ok()
        .filter(|text| text.len() <= 64)?;
    // A zone says through which interface the address is reached.
    let address = text
        .split_once('%')
        .map_or(text, |(address, _zone)| address);
    address.parse().ok()
}

fn masked(address: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    let mask = u128::MAX
        .checked_shl(128_u32.saturating_sub(prefix.into()))
        .unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & mask)
}

#[cfg(test)]
mod tests {
    fn of(text: &str, prefix: u8) -> Vec<u8> {
        super::key(text.as_bytes(), prefix).expect(text)
    }

    #[test]
    fn text_forms_of_one_address_are_one_key() {
        for forms in [
            &[
                "1.2.3.4",
                "::ffff:1.2.3.4",
                "::FFFF:102:304",
                "0:0:0:0:0:ffff:1.2.3.4",
            ][..],
            &[
                "2001:DB8::1",
                "2001:db8:0:0::1",
                "2001:0db8:0000:0000:0000:0000:0000:0001",
            ][..],
            &["fe80::1", "fe80::1%eth0", "FE80:0::1%lo"][..],
        ] {
            for form in forms {
                assert_eq!(of(form, 128), of(forms[0], 128), "{form}");
            }
        }
    }

    #[test]
    fn a_prefix_of_ipv6_counts_as_one_and_ipv4_has_none() {
        assert_eq!(of("2001:db8::1", 64), of("2001:db8::ffff:1:2:3", 64));
        assert_ne!(of("2001:db8::1", 64), of("2001:db8:0:1::1", 64));
        assert_eq!(of("2001:db8:0:1::1", 48), of("2001:db8:0:2::1", 48));
        assert_ne!(of("2001:db8::1", 128), of("2001:db8::2", 128));
        assert_eq!(of("::1", 0), of("ffff::1", 0));
        assert_ne!(of("1.2.3.4", 0), of("1.2.3.5", 0));
        assert_ne!(of("::ffff:1.2.3.4", 64), of("::ffff:1.2.3.5", 64));
    }

    #[test]
    fn what_is_no_address_has_no_key() {
        let long = "1".repeat(1_000);
        for text in [
            "",
            "a",
            "1.2.3",
            "256.1.1.1",
            "::g",
            "1.2.3.4:80",
            "[::1]",
            &long,
        ] {
            assert_eq!(super::key(text.as_bytes(), 64), None, "{text}");
        }
        assert_eq!(super::key(&[0xFE, 1, 2, 3, 4], 64), None);
    }
}
