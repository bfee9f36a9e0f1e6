//! Links within the repository lead somewhere, and every document can be found from the README.

use crate::markdown::{AT_THE_TOP, documents, root};

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_exist() {
    let documents = documents();
    for document in &documents {
        let folder = root().join(&document.path);
        let folder = folder.parent().expect("a folder");
        for (place, link) in document.links() {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let path = if file.is_empty() { root().join(&document.path) } else { folder.join(file) };
            let path = path.canonicalize().unwrap_or_else(|err| panic!("{place}: {link}: {err}"));
            if anchor.is_empty() {
                continue;
            }
            let target = documents
                .iter()
                .find(|other| root().join(&other.path).canonicalize().is_ok_and(|other| other == path));
            let target = target.unwrap_or_else(|| panic!("{place}: {link} is no document"));
            let anchors = target.anchors();
            assert!(anchors.iter().any(|known| known == anchor), "{place}: {link}; there are {anchors:?}");
        }
    }
}

#[test]
fn the_readme_lists_every_document() {
    let documents = documents();
    let readme = documents.iter().find(|document| document.path == "README.md").expect("a README");
    let links: Vec<String> = readme.links().into_iter().map(|(_, link)| link).collect();
    let listed = |path: &str| path.starts_with("docs/") || AT_THE_TOP.contains(&path);
    for document in documents.iter().filter(|document| listed(&document.path) && document.path != "README.md")
    {
        assert!(links.contains(&document.path), "{} is not linked", document.path);
    }
}

#[test]
fn every_document_begins_with_what_it_is_for() {
    for document in documents() {
        let mut lines = document.text.lines();
        assert!(lines.next().is_some_and(|line| line.starts_with("# ")), "{}", document.path);
        let first = lines.find(|line| !line.trim().is_empty()).unwrap_or_default();
        assert!(first.starts_with(char::is_alphabetic), "{}: {first}", document.path);
    }
}
