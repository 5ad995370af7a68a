//! The status page: one document for browsers, with its style and its scripts in it, that `rs_uwsgi_status`
//! serves. It is built into the module, asks no other host for anything, and gets all that it shows from the
//! JSON below the same location.

const DOCUMENT: &str = include_str!("page/page.html");
/// What stands for a file in the document, and what is put there: before the nonce, after it, the file, its end.
const FILES: [(&str, [&str; 4]); 3] = [
    (
        "<link rel=\"stylesheet\" href=\"page.css\">",
        ["<style nonce=\"", "\">\n", include_str!("page/page.css"), "</style>"],
    ),
    (
        "<script src=\"parts.js\" defer></script>",
        ["<script type=\"module\" nonce=\"", "\">\n", include_str!("page/parts.js"), ""],
    ),
    (
        "<script src=\"page.js\" defer></script>",
        ["", "", include_str!("page/page.js"), "</script>"],
    ),
];

/// The document. `nonce`: letters and digits, others for each answer; [`policy`] has to have the same.
pub fn document(nonce: &str) -> String {
    FILES.iter().fold(DOCUMENT.to_owned(), |document, (place, [before, after, text, end])| {
        let nonce = if before.is_empty() { "" } else { nonce };
        document.replacen(place, &[before, nonce, after, text, end].concat(), 1)
    })
}

/// Its Content-Security-Policy (W3C, level 3): what is in the document runs, it may ask this server for more, and
/// no other page may show it in a frame.
pub fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_document_with_everything_in_it() {
        let document = document("abc123");
        assert!(document.starts_with("<!DOCTYPE html>\n") && document.ends_with("</html>\n"));
        for (place, [.., text, _]) in FILES {
            assert!(document.contains(text) && !document.contains(place), "{place}");
        }
        for (tag, count) in
            [("<style nonce=\"abc123\">", 1), ("<script type=\"module\" nonce=\"abc123\">", 1)]
        {
            assert_eq!(document.matches(tag).count(), count, "{tag}");
        }
        for (end, count) in
            [("<style", 1), ("</style", 1), ("<script", 1), ("</script", 1), ("abc123", 2)]
        {
            assert_eq!(document.matches(end).count(), count, "{end}");
        }
        assert_eq!(policy("abc123").matches("'nonce-abc123'").count(), 2);
    }

    #[test]
    fn no_other_host_is_named() {
        // The name of an XML vocabulary, which nobody asks for.
        let document = document("").replace("http://www.w3.org/2000/svg", "");
        assert!(!document.contains("://") && !document.contains("\"//"));
    }

    #[test]
    fn no_text_can_become_markup_and_nothing_needs_a_weaker_policy() {
        let document = document("");
        for sink in [
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
            " style=",
            " onclick=",
            " onload=",
        ] {
            assert!(!document.contains(sink), "{sink}");
        }
    }

    #[test]
    fn the_page_is_small() {
        let size = document("").len();
        assert!(size < 48 * 1024, "{size} bytes");
    }
}
