//! What the tests of the HTML report share: the page taken apart, and the browser that opens it.

pub(crate) mod browser;
pub(crate) mod decoded;

pub(crate) use decoded::Decoded;

/// A page in its parts.
pub(crate) struct Page {
    /// The page without script, style, policy and data.
    pub(crate) plain: String,
    /// What the script gets.
    pub(crate) data: String,
}

impl Page {
    pub(crate) fn of(page: &str) -> Page {
        let (plain, data) = cut(
            page,
            "<script type=\"text/plain\" id=\"data\">",
            "</script>",
        );
        let (plain, _) = cut(&plain, "<style>", "</style>");
        let (plain, _) = cut(&plain, "<script>", "</script>");
        let (plain, policy) = cut(&plain, "Content-Security-Policy\" content=\"", "\"");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'sha256-"),
            "{policy}"
        );
        Page { plain, data }
    }
}

/// A text without what stands between two marks, and that.
fn cut(text: &str, from: &str, to: &str) -> (String, String) {
    let begin = text.find(from).expect("the begin is there") + from.len();
    let end = begin + text[begin..].find(to).expect("the end is there");
    (
        format!("{}…{}", &text[..begin], &text[end..]),
        text[begin..end].to_owned(),
    )
}
