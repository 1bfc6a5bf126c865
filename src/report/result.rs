//! The page of a result: what was asked, what is drawn and what is printed, in one offline file without a script.

use crate::render::svg::escape;

const STYLE: &str = include_str!("page.css");

/// `drawings` are SVG; `text` is shown as it is, line by line.
pub fn html(title: &str, command: &str, drawings: &[String], text: &str) -> String {
    let drawings: String = drawings.iter().map(|one| format!("<div class=\"picture\">{one}</div>\n")).collect();
    let body = format!(
        "<header><h1>{}</h1></header>\n<section>\n{drawings}<pre>{}</pre>\n\
         <h2>The command</h2>\n<pre class=\"command\">{}</pre>\n</section>\n",
        escape(title),
        text.trim_end().lines().map(escape).collect::<Vec<_>>().join("\n"),
        escape(command)
    );
    shell(title, &body)
}

/// A page with a style and without scripts or anything from elsewhere.
pub fn shell(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{}</title>\n<style>\n{STYLE}\n.picture {{ overflow-x: auto; background: #fff; margin: 8px 0; }}\n\
         pre {{ overflow-x: auto; font-size: 13px; white-space: pre; }} pre.command {{ white-space: pre-wrap; }}\n</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(title)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_on_the_page_is_taken_for_markup() {
        let page = html("a < b", "penjing run '<b>'", &["<svg/>".to_owned()], "x & y\n  z\n\n");
        assert!(page.contains("<title>a &lt; b</title>") && page.contains("<h1>a &lt; b</h1>"), "{page}");
        assert!(page.contains("<pre>x &amp; y\n  z</pre>") && page.contains("run '&lt;b&gt;'"), "{page}");
        assert!(page.contains("<div class=\"picture\"><svg/></div>"), "{page}");
    }
}
