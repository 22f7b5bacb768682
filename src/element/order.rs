//! [`ByteOrder`], and the character for it in a descriptor.

/// The order of the bytes in an element of several bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// Least significant byte first: `<` in a descriptor.
    Little,
    /// Most significant byte first: `>` in a descriptor.
    Big,
}

impl ByteOrder {
    /// The byte order of this machine.
    pub const NATIVE: Self = if cfg!(target_endian = "little") { Self::Little } else { Self::Big };
}

/// Splits the byte-order character, where there is one, from the rest of a descriptor. `=` and `|` give no order.
pub(super) fn split_order(descr: &str) -> (Option<ByteOrder>, &str) {
    let order = match descr.chars().next() {
        Some('<') => Some(ByteOrder::Little),
        Some('>') => Some(ByteOrder::Big),
        Some('=' | '|') => None,
        _ => return (None, descr),
    };
    (order.filter(|_| !is_bytes(&descr[1..])), &descr[1..])
}

/// Whether elements of this kind and size are single bytes or rows of them, which have no byte order.
fn is_bytes(kind_and_size: &str) -> bool {
    matches!(kind_and_size, "b1" | "i1" | "u1" | "?") || kind_and_size.starts_with(['S', 'a', 'V', 'O'])
}
