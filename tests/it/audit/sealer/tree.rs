//! The tree, the notes and the keys, held against RFC 6962, C2SP and OpenSSL.

use std::process::{Command, Stdio};

use aws_lc_rs::digest::{SHA256, digest};
use proptest::prelude::*;
use runner_broker::seal::Hash;
use runner_broker::seal::key::{self, SigningKey, VerifierKey};
use runner_broker::seal::note::{self, Head};
use runner_broker::seal::tree::{Frontier, Proof, Subtree, fold};

/// The leaves of the test vectors that Certificate Transparency's implementations share.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];

/// The roots of the trees of the first 0 to 8 of them.
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn sha256(parts: &[&[u8]]) -> Hash {
    Hash(digest(&SHA256, &parts.concat()).as_ref().try_into().expect("32 bytes"))
}

/// RFC 6962, section 2.1, word by word.
fn by_definition(leaves: &[Hash]) -> Hash {
    match leaves.len() {
        0 => sha256(&[]),
        1 => leaves[0],
        n => {
            let k = 1 << (n - 1).ilog2();
            let (left, right) = (by_definition(&leaves[..k]), by_definition(&leaves[k..]));
            sha256(&[&[1], &left.0, &right.0])
        }
    }
}

fn grown(leaves: &[Hash]) -> Frontier {
    let mut tree = Frontier::default();
    leaves.iter().for_each(|leaf| drop(tree.push(0, *leaf).expect("a place")));
    tree
}

fn numbered(count: u64) -> Vec<Hash> {
    (0..count).map(|i| sha256(&[&[0], &i.to_be_bytes()])).collect()
}

/// The hash of a complete subtree.
fn subtree(leaves: &[Hash], place: Subtree) -> Hash {
    let from = (place.index << place.level) as usize;
    fold(leaves[from..from + (1 << place.level)].to_vec()).expect("a subtree")
}

#[test]
fn the_roots_of_no_leaf_to_eight_are_those_of_certificate_transparency() {
    let leaves: Vec<Hash> = LEAVES.map(|leaf| sha256(&[&[0], &hex::decode(leaf).unwrap()])).to_vec();
    for (count, root) in ROOTS.iter().enumerate() {
        assert_eq!(hex::encode(grown(&leaves[..count]).root().0), *root, "{count} leaves");
        assert_eq!(
            hex::encode(by_definition(&leaves[..count]).0),
            *root,
            "{count} leaves, by the definition"
        );
    }
}

#[test]
fn what_is_complete_on_the_kept_levels_is_said_once() {
    let mut tree = Frontier::default();
    let leaves = numbered(70_000);
    let mut kept = Vec::new();
    leaves.iter().for_each(|leaf| kept.extend(tree.push(0, *leaf).unwrap()));
    let places: Vec<(u8, u64)> = kept.iter().map(|(place, _)| (place.level, place.index)).collect();
    assert_eq!(places.iter().filter(|(level, _)| *level == 8).count(), 70_000 / 256);
    assert_eq!(places.iter().filter(|(level, _)| *level == 16).count(), 1);
    for (place, hash) in kept.iter().step_by(37) {
        assert_eq!(subtree(&leaves, *place), *hash, "{place:?}");
    }
    assert!(Frontier::default().push(64, leaves[0]).is_none());
    assert!(grown(&leaves[..3]).push(1, leaves[0]).is_none(), "two leaves cannot begin at the fourth place");
}

/// RFC 9162, section 2.1.3.2: what an auditor computes from an inclusion proof.
pub fn leads_to(leaf: Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    let (mut fnode, mut snode, mut root) = (index, size - 1, leaf);
    for hash in proof {
        if snode == 0 {
            return None;
        }
        if fnode & 1 == 1 || fnode == snode {
            root = sha256(&[&[1], &hash.0, &root.0]);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            root = sha256(&[&[1], &root.0, &hash.0]);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    (snode == 0).then_some(root)
}

/// RFC 9162, section 2.1.4.2.
pub fn continues(from: u64, old: Hash, to: u64, new: Hash, proof: &[Hash]) -> bool {
    if from == to {
        return proof.is_empty() && old == new;
    }
    let mut path = proof.to_vec();
    if from.is_power_of_two() {
        path.insert(0, old);
    }
    let Some(first) = path.first().copied() else { return false };
    let (mut fnode, mut snode) = (from - 1, to - 1);
    while fnode & 1 == 1 {
        fnode >>= 1;
        snode >>= 1;
    }
    let (mut fr, mut sr) = (first, first);
    for hash in &path[1..] {
        if snode == 0 {
            return false;
        }
        if fnode & 1 == 1 || fnode == snode {
            fr = sha256(&[&[1], &hash.0, &fr.0]);
            sr = sha256(&[&[1], &hash.0, &sr.0]);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            sr = sha256(&[&[1], &sr.0, &hash.0]);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    fr == old && sr == new && snode == 0
}

proptest! {
    #[test]
    fn every_proof_convinces_an_auditor_who_follows_the_rfc(size in 1_u64..700, a in any::<u64>(), b in any::<u64>()) {
        let leaves = numbered(size);
        let (index, from) = (a % size, 1 + b % size);
        let make = |proof: Proof| {
            let hashes = proof.needs().into_iter().map(|place| subtree(&leaves, place)).collect();
            proof.from_hashes(hashes).expect("a proof")
        };
        let root = grown(&leaves).root();
        prop_assert_eq!(root, by_definition(&leaves));
        let inclusion = make(Proof::Inclusion { size, index });
        prop_assert_eq!(leads_to(leaves[index as usize], index, size, &inclusion), Some(root));
        let old = grown(&leaves[..from as usize]).root();
        let consistency = make(Proof::Consistency { size, from });
        prop_assert!(continues(from, old, size, root, &consistency));
        prop_assert!(!continues(from, root, size, old, &consistency) || from == size);
    }

    #[test]
    fn a_tree_is_built_of_any_of_its_subtrees(size in 1_u64..3_000, a in any::<u64>(), b in any::<u64>()) {
        let leaves = numbered(size);
        let (from, until) = (a % size, a % size + b % (size - a % size) + 1);
        let mut tree = grown(&leaves[..from as usize]);
        for place in Subtree::covering(from..until) {
            let (level, run) = place.run();
            prop_assert!(level % 8 == 0 && run.end - run.start <= 128);
            tree.push(place.level, subtree(&leaves, place)).expect("a place");
        }
        for leaf in &leaves[until as usize..] {
            tree.push(0, *leaf);
        }
        prop_assert_eq!(tree.root(), grown(&leaves).root());
    }
}

#[test]
fn a_proof_of_what_is_not_there_is_none() {
    for proof in [
        Proof::Inclusion { size: 4, index: 4 },
        Proof::Consistency { size: 4, from: 0 },
        Proof::Consistency { size: 4, from: 5 },
    ] {
        assert!(proof.needs().is_empty());
        assert_eq!(proof.from_hashes(Vec::new()), None, "{proof:?}");
    }
}

#[test]
fn a_checkpoint_is_three_lines_and_a_signature_that_only_its_key_makes() {
    let pem = SigningKey::generate().unwrap();
    let (key, other) = (SigningKey::from_pem(&pem).unwrap(), SigningKey::generate().unwrap());
    let other = SigningKey::from_pem(&other).unwrap();
    let head = Head { size: 12, root: numbered(1)[0], settled: None };
    let text = note::write(head, Some(&key)).unwrap();
    let lines: Vec<&str> = text.split('\n').collect();
    assert_eq!(lines[..4], ["runner-broker/audit-log", "12", &head.root.to_string(), ""]);
    assert!(lines[4].starts_with("— runner-broker/audit-log ") && lines[5..] == [""], "{text}");

    let verifier = VerifierKey::parse(&key.verifier_key()).unwrap();
    assert_eq!(note::read(&text, Some(&verifier)), Ok(head));
    assert_eq!(note::read(&text, None), Ok(head));
    assert!(note::is_by(&text, Some(&key)) && !note::is_by(&text, Some(&other)) && !note::is_by(&text, None));
    let stranger = other.verifier().unwrap();
    assert_eq!(note::read(&text, Some(&stranger)), Err(note::Error::Signature));
    assert_eq!(note::read(&text.replace("\n12\n", "\n13\n"), Some(&verifier)), Err(note::Error::Signature));
    // A key that was changed: both are known.
    let both = VerifierKey::parse(&format!("{}\n{}\n", other.verifier_key(), key.verifier_key())).unwrap();
    assert_eq!(note::read(&text, Some(&both)), Ok(head));

    let bare = note::write(head, None).unwrap();
    assert_eq!(bare.lines().count(), 3);
    assert_eq!((note::read(&bare, None), note::is_by(&bare, None)), (Ok(head), true));
    assert_eq!(note::read(&bare, Some(&verifier)), Err(note::Error::Unsigned));
    for bad in [
        "",
        "\n",
        "runner-broker/audit-log\n12\n",
        "runner-broker/audit-log\n012\nAAAA\n",
        &bare[..bare.len() - 1],
    ] {
        assert_eq!(note::read(bad, None), Err(note::Error::Malformed), "{bad:?}");
    }
    let elsewhere = note::read(&bare.replace("runner-broker", "example.com"), None);
    assert_eq!(elsewhere, Err(note::Error::OtherLog("example.com/audit-log".into())));
}

#[test]
fn openssl_reads_our_keys_and_we_read_its() {
    let pem = SigningKey::generate().unwrap();
    let openssl = |arguments: &[&str], input: &str| -> Option<Vec<u8>> {
        let mut child = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        std::io::Write::write_all(&mut child.stdin.take()?, input.as_bytes()).ok()?;
        Some(child.wait_with_output().ok()?.stdout)
    };
    let Some(public) = openssl(&["pkey", "-pubout", "-outform", "DER"], &pem) else { return };
    let vkey = SigningKey::from_pem(&pem).unwrap().verifier_key();
    let encoded = vkey.splitn(3, '+').nth(2).unwrap_or_default().to_owned();
    let encoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).unwrap();
    assert_eq!((encoded[0], &encoded[1..]), (1, &public[public.len() - 32..]));
    let theirs = openssl(&["genpkey", "-algorithm", "ed25519"], "").unwrap();
    assert!(SigningKey::from_pem(&String::from_utf8(theirs).unwrap()).is_ok());
    let rsa = openssl(&["genpkey", "-algorithm", "rsa"], "").unwrap();
    assert_eq!(SigningKey::from_pem(&String::from_utf8(rsa).unwrap()).unwrap_err(), key::Error::NotEd25519);
    assert_eq!(SigningKey::from_pem("nothing").unwrap_err(), key::Error::NoPem);
}
