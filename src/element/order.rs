//! [`ByteOrder`], and its character in a descriptor.

/// The order of the bytes in an element of several bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// The least significant byte comes first: `<` in a descriptor.
    Little,
    /// The most significant byte comes first: `>` in a descriptor.
    Big,
}

impl ByteOrder {
    /// The byte order of this machine.
    pub const NATIVE: Self = if cfg!(target_endian = "little") { Self::Little } else { Self::Big };
}

/// Splits a descriptor into its byte order and the rest. The byte order is `None` if the descriptor starts with `=` or
/// `|`.
pub(super) fn split_order(descr: &str) -> (Option<ByteOrder>, &str) {
    let order = match descr.chars().next() {
        Some('<') => Some(ByteOrder::Little),
        Some('>') => Some(ByteOrder::Big),
        Some('=' | '|') => None,
        _ => return (None, descr),
    };
    (order.filter(|_| !is_bytes(&descr[1..])), &descr[1..])
}

/// Returns whether elements of this kind and size have no byte order: single bytes, sequences of bytes, and objects.
fn is_bytes(kind_and_size: &str) -> bool {
    matches!(kind_and_size, "b1" | "i1" | "u1" | "?") || kind_and_size.starts_with(['S', 'a', 'V', 'O'])
}
