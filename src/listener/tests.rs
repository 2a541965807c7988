//! The routes over a real socket on the loopback.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

struct Server {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    queries: Arc<Mutex<Vec<String>>>,
    readiness: watch::Sender<Readiness>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn started(page: Page) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let queries = Arc::new(Mutex::new(Vec::new()));
    let seen = queries.clone();
    let callback: Callback = Arc::new(move |query| {
        seen.lock().unwrap().push(query);
        let page = page.clone();
        async move { page }.boxed()
    });
    let (readiness, receiver) = watch::channel(Readiness::NotReady("starting".to_owned()));
    let stop = CancellationToken::new();
    let services =
        Services { callback: Some(callback), hooks: None, metrics: None, readiness: receiver, names: Arc::default() };
    let task = tokio::spawn(serve(listener, services, stop.clone()));
    Server { address, stop, queries, readiness, task }
}

async fn ask(server: &Server, method: &str, target: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn page() -> Page {
    Page {
        status: 403,
        title: "Access <refused>".to_owned(),
        message: "a & \"b\" 'c' — ґ".to_owned(),
        hint: Some("run `x`".to_owned()),
    }
}

#[tokio::test]
async fn the_callback_page_is_escaped_uncached_and_does_not_echo_the_query() {
    let server = started(page()).await;
    let answer = ask(&server, "GET", "/callback?code=s3cret&state=%3Cscript%3E").await;
    assert_eq!(*server.queries.lock().unwrap(), ["code=s3cret&state=%3Cscript%3E"]);
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    for header in ["cache-control: no-store", "referrer-policy: no-referrer", "content-type: text/html; charset=utf-8"]
    {
        assert!(answer.contains(header), "{header} is missing: {answer}");
    }
    assert!(answer.contains("<h1>Access &lt;refused&gt;</h1>"), "{answer}");
    assert!(answer.contains("<p>a &amp; &quot;b&quot; &#39;c&#39; — ґ</p>\n<p>run `x`</p>"), "{answer}");
    for absent in ["s3cret", "script", "http://", "https://", "src="] {
        assert!(!answer.contains(absent), "{absent} is in {answer}");
    }
}

#[tokio::test]
async fn a_head_or_a_post_spends_no_code() {
    let server = started(page()).await;
    for method in ["HEAD", "POST"] {
        let answer = ask(&server, method, "/callback?code=c").await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{method}: {answer}");
    }
    assert!(server.queries.lock().unwrap().is_empty());
}

#[tokio::test]
async fn health_is_told_apart_from_readiness() {
    let server = started(page()).await;
    assert!(ask(&server, "GET", "/livez").await.starts_with("HTTP/1.1 200 "));
    let waiting = ask(&server, "GET", "/readyz").await;
    assert!(waiting.starts_with("HTTP/1.1 503 ") && waiting.ends_with("not ready: starting\n"), "{waiting}");
    server.readiness.send(Readiness::Ready).unwrap();
    assert!(ask(&server, "GET", "/readyz").await.starts_with("HTTP/1.1 200 "));
    assert!(ask(&server, "GET", "/other").await.starts_with("HTTP/1.1 404 "));
}

/// A page whose own name was made to point here.
#[tokio::test]
async fn who_asks_by_a_foreign_name_learns_nothing_and_spends_no_code() {
    let server = started(page()).await;
    for target in ["/livez", "/readyz", "/callback?code=c", "/metrics"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: evil.example:8400\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 421 ") || target == "/metrics", "{target}: {answer}");
    }
    assert!(server.queries.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_a_completer_there_is_no_callback() {
    let (_sender, readiness) = watch::channel(Readiness::Ready);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let services = Services { callback: None, hooks: None, metrics: None, readiness, names: Arc::default() };
    let task = tokio::spawn(serve(listener, services, stop.clone()));
    let (readiness, _) = watch::channel(Readiness::Ready);
    let server = Server { address, stop, queries: Arc::default(), readiness, task };
    assert!(ask(&server, "GET", "/callback?code=c").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn it_stops_when_told_and_frees_the_port() {
    let server = started(page()).await;
    ask(&server, "GET", "/livez").await;
    server.stop.cancel();
    server.task.await.unwrap().unwrap();
    TcpListener::bind(server.address).await.unwrap();
}
