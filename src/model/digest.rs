//! SHA-256, as lower-case hexadecimal text. The only place that hashes what is stored or compared.

use aws_lc_rs::digest::{Context, SHA256, digest};

/// The SHA-256 (FIPS 180-4) of `bytes`: 64 characters of `0-9a-f`.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(digest(&SHA256, bytes.as_ref()))
}

/// The SHA-256 of several parts: each is preceded by its length as eight bytes, most significant first. Two
/// different lists never have the same bytes, whatever the parts contain.
pub fn sha256_of_parts<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        let part = part.as_ref();
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    hex::encode(context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_the_hash_that_every_other_program_computes() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256("abc"), abc);
        assert_ne!(sha256_of_parts(["abc"]), abc);
    }

    #[test]
    fn parts_are_told_apart_however_they_are_cut() {
        let lists: [&[&str]; 6] =
            [&["ab", "c"], &["a", "bc"], &["abc"], &["abc", ""], &["", "abc"], &["ab\0c"]];
        let hashes: std::collections::BTreeSet<_> =
            lists.iter().map(|parts| sha256_of_parts(*parts)).collect();
        assert_eq!(hashes.len(), lists.len());
    }
}
