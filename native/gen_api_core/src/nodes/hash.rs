//! The hash that decides where a key goes.
//!
//! Fixed for ever: gateways of different releases must agree. `tests/vectors/rendezvous.json` pins it.

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a, 64 bit. One multiplication per byte, each waiting for the one before: about 1 ns per byte.
#[inline]
#[must_use]
pub fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(FNV_OFFSET, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
    })
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014). A bijection, so it adds no collisions; it
/// spreads the differences that FNV-1a leaves in the low bits over all 64.
#[inline]
#[must_use]
pub const fn mix(mut z: u64) -> u64 {
    z ^= z >> 30;
    z = z.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^= z >> 27;
    z = z.wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The part of a score that depends on the node, computed once per node.
#[inline]
#[must_use]
pub fn node_hash(name: &str) -> u64 {
    mix(fnv1a64(name.as_bytes()))
}

/// The part of a score that depends on the key, computed once per selection.
#[inline]
#[must_use]
pub fn key_hash(key: &[u8]) -> u64 {
    fnv1a64(key)
}

/// How much a node wants a key. The node with the highest score gets it.
#[inline]
#[must_use]
pub const fn score(key_hash: u64, node_hash: u64) -> u64 {
    mix(key_hash ^ node_hash)
}
