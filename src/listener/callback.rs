//! `GET /callback`: hands the query to whoever completes authorizations, and shows a page.
//!
//! The page is whole in itself (no script, no outside resource) and escapes every text. Never echoes the query.

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;

/// Completes an authorization with the raw query of a callback.
pub type Callback = Arc<dyn Fn(String) -> BoxFuture<'static, Page> + Send + Sync>;

/// What the browser is shown. Texts are plain; they are escaped here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// HTTP status; one that is none becomes 500.
    pub status: u16,
    /// Heading.
    pub title: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

pub(super) fn build_route(callback: Callback) -> Router {
    // A code works once: a HEAD (a link preview) must not spend it.
    let route = get(answer).head(async || StatusCode::METHOD_NOT_ALLOWED);
    Router::new().route("/callback", route).with_state(callback)
}

async fn answer(State(callback): State<Callback>, RawQuery(query): RawQuery) -> Response {
    // In a task of its own: a browser that goes away must not cut the exchange off half way.
    let completed = tokio::spawn(callback(query.unwrap_or_default())).await;
    let page = completed.unwrap_or_else(|_| Page {
        status: 500,
        title: "Authorization failed".to_owned(),
        message: "reteno-sync stopped while it was completing the authorization".to_owned(),
        hint: Some("run `reteno-sync --authorize` again".to_owned()),
    });
    page.into_response()
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // The address of this page holds the code: it goes neither into a cache nor into a Referer.
        let headers: [(HeaderName, &str); 4] = [
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
            ),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        (status, headers, Html(self.render())).into_response()
    }
}

impl Page {
    fn render(&self) -> String {
        let title = escape(&self.title);
        let message = escape(&self.message);
        let hint = self.hint.as_deref().map(|hint| format!("<p>{}</p>\n", escape(hint))).unwrap_or_default();
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <style>body{{font-family:sans-serif;max-width:36em;margin:4em auto;padding:0 1em;line-height:1.5}}</style>\n\
             </head>\n<body>\n<h1>{title}</h1>\n<p>{message}</p>\n{hint}</body>\n</html>\n"
        )
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
