//! The status page: a document, its style and its scripts, as `rs_uwsgi_status` serves them below its
//! prefix. They are built into the module and ask no other host for anything.
//!
//! Style and scripts are files of their own, because a policy that the operator adds to all responses
//! (`Content-Security-Policy: default-src 'self'`) forbids those inside of a document. All addresses in
//! them are relative: the document has to be served at a path that ends in a slash.

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// What follows the slash of the prefix; the document has no name.
    pub name: &'static str,
    /// Content-Type.
    pub kind: &'static str,
    /// What is in it, in UTF-8.
    pub text: &'static str,
}

/// All files of the page, the document first.
pub const FILES: [File; 4] = [
    File { name: "", kind: "text/html; charset=utf-8", text: include_str!("page/page.html") },
    File { name: "page.css", kind: "text/css; charset=utf-8", text: include_str!("page/page.css") },
    File { name: "parts.js", kind: SCRIPT, text: include_str!("page/parts.js") },
    File { name: "page.js", kind: SCRIPT, text: include_str!("page/page.js") },
];

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The Content-Security-Policy of the document (W3C, CSP level 3): its own files and nothing else, no
/// script or style inside of it, and no other page may show it in a frame.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                          img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The file with this name.
pub fn find(name: &[u8]) -> Option<&'static File> {
    FILES.iter().find(|file| file.name.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_their_names() {
        for file in &FILES {
            assert_eq!(find(file.name.as_bytes()), Some(file));
        }
        for name in ["page.html", "/", "page.js/", "Page.js", "../page.js", "json"] {
            assert_eq!(find(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn the_document_names_the_other_files_and_no_other_host() {
        let [document, others @ ..] = &FILES;
        for file in others {
            assert!(document.text.contains(&format!("=\"{}\"", file.name)), "{}", file.name);
        }
        for file in &FILES {
            // Names of XML, which nobody asks for.
            let text = file.text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("//cdn") && !text.contains("://"), "{}", file.name);
        }
    }

    #[test]
    fn no_text_can_become_markup_and_nothing_needs_a_weaker_policy() {
        let sinks = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "eval(",
            "new Function",
            "createContextualFragment",
            "srcdoc",
            "javascript:",
        ];
        for file in &FILES {
            for sink in sinks {
                assert!(!file.text.contains(sink), "{sink} in {}", file.name);
            }
        }
        let [document, ..] = &FILES;
        for inline in ["<style", " style=", " onclick=", " onload=", "<script>"] {
            assert!(!document.text.contains(inline), "{inline}");
        }
    }

    #[test]
    fn the_page_is_small() {
        let size: usize = FILES.iter().map(|file| file.text.len()).sum();
        assert!(size < 48 * 1024, "{size} bytes");
    }
}
