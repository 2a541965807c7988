//! The client against real sockets, and the pace against tokio's paused timer.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::paced::Paced;
use super::socket::{HttpExchange, Timeouts};
use super::*;

const BODY_BYTES_MAX: usize = 1000;

fn client() -> HttpExchange {
    let long = Duration::from_secs(20);
    HttpExchange::new(Timeouts { connect: long, read: long, total: long }, BODY_BYTES_MAX)
}

fn request(method: &str, uri: &str, body: &'static str) -> http::Request<Bytes> {
    let request = http::Request::builder().method(method).uri(uri).header("authorization", "Bearer tok-secret");
    request.body(Bytes::from_static(body.as_bytes())).expect("a request")
}

/// Reads one request with its body, as text.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&read).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse::<usize>().expect("a length"));
            if body.len() >= length {
                return text;
            }
        }
        let count = stream.read(&mut piece).await.expect("the request");
        assert!(count > 0, "the request ended early");
        read.extend_from_slice(&piece[..count]);
    }
}

/// A server that takes one request, answers with `answer` as it stands, and then closes or keeps the connection.
async fn serve(answer: impl Into<Vec<u8>>, keep_open: bool) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/v1/contacts?q=private", listener.local_addr().expect("an address"));
    let answer = answer.into();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let request = read_request(&mut stream).await;
        stream.write_all(&answer).await.expect("the answer is taken");
        if keep_open {
            std::future::pending::<()>().await;
        }
        request
    });
    (url, served)
}

fn assert_silent(error: &ExchangeError) {
    let words = format!("{} {error:?}", error.in_words());
    for secret in ["private", "v1/contacts", "tok-secret", "jane"] {
        assert!(!words.contains(secret), "{words}");
    }
}

fn assert_lost(answer: Result<http::Response<Bytes>, ExchangeError>) -> String {
    match answer {
        Err(error @ ExchangeError::Lost { .. }) => {
            assert_silent(&error);
            error.in_words()
        }
        other => panic!("not lost: {other:?}"),
    }
}

fn assert_not_sent(answer: Result<http::Response<Bytes>, ExchangeError>) -> String {
    match answer {
        Err(error @ ExchangeError::NotSent { .. }) => {
            assert_silent(&error);
            error.in_words()
        }
        other => panic!("not `not sent`: {other:?}"),
    }
}

#[tokio::test]
async fn a_request_arrives_whole_and_its_answer_comes_back_whole() {
    let (url, served) = serve("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nretry-after: 7\r\n\r\n{}", false).await;
    let answer = client().exchange(request("POST", &url, "{\"a\":1}")).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"{}"[..]));
    assert_eq!(answer.headers()["retry-after"], "7");
    let seen = served.await.expect("a request");
    assert!(seen.starts_with("post /v1/contacts?q=private http/1.1\r\n"), "{seen}");
    assert!(seen.contains("\r\nauthorization: bearer tok-secret\r\n"), "{seen}");
    assert!(seen.contains(concat!("\r\nuser-agent: reteno-sync/", env!("CARGO_PKG_VERSION"), "\r\n")), "{seen}");
    assert!(seen.ends_with("{\"a\":1}"), "{seen}");
}

#[tokio::test]
async fn localhost_by_name_is_this_machine() {
    let (url, _served) = serve("HTTP/1.1 204 No Content\r\n\r\n", false).await;
    let answer = client().exchange(request("GET", &url.replace("127.0.0.1", "localhost"), "")).await;
    assert_eq!(answer.expect("an answer").status().as_u16(), 204);
}

#[tokio::test]
async fn a_redirect_is_returned_and_not_followed() {
    let answer = "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n";
    let (url, _served) = serve(answer, false).await;
    let answer = client().exchange(request("POST", &url, "x")).await.expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["location"]),
        (302, &"/elsewhere".parse().expect("a value"))
    );
}

#[tokio::test]
async fn a_refused_connection_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let words = assert_not_sent(client().exchange(request("POST", &format!("http://{address}/private"), "x")).await);
    assert!(words.starts_with(&format!("cannot reach {address}: ")), "{words}");
}

#[tokio::test]
async fn a_failed_tls_handshake_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("the answer is taken");
    });
    assert_not_sent(client().exchange(request("POST", &format!("https://{address}/private"), "x")).await);
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_may_have_done_it() {
    for answer in [
        "",                                                               // nothing at all
        "HTTP/1.1 200 OK\r\ncontent-le",                                  // within the head
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"asyncSessi",    // within the body
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"a", // within a chunk
        "not http at all\r\n\r\n",
    ] {
        let (url, _served) = serve(answer, false).await;
        assert_lost(client().exchange(request("POST", &url, "jane@example.com")).await);
    }
}

#[tokio::test]
async fn an_answer_that_stops_coming_is_lost_when_its_time_is_over() {
    let (long, short) = (Duration::from_secs(20), Duration::from_millis(60));
    let by_read = Timeouts { connect: long, read: short, total: long };
    let by_total = Timeouts { connect: long, read: long, total: short };
    for timeouts in [by_read, by_total] {
        for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"] {
            let (url, served) = serve(answer, true).await;
            let client = HttpExchange::new(timeouts, BODY_BYTES_MAX);
            // Less than the long time: it is the short one that ended it.
            let exchange = tokio::time::timeout(long / 2, client.exchange(request("POST", &url, "x")));
            assert_lost(exchange.await.expect("ended by the short time"));
            served.abort();
        }
    }
}

#[tokio::test]
async fn an_answer_over_the_bound_is_lost_and_one_at_the_bound_is_not() {
    let exact = "x".repeat(BODY_BYTES_MAX);
    let (url, _served) = serve(format!("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{exact}"), false).await;
    let answer = client().exchange(request("GET", &url, "")).await.expect("an answer");
    assert_eq!(answer.body().len(), BODY_BYTES_MAX);
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for head in ["HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
        let (url, _served) = serve(format!("{head}{exact}y"), false).await;
        let words = assert_lost(client().exchange(request("GET", &url, "")).await);
        assert!(words.ends_with("the answer is longer than 1000 bytes"), "{words}");
    }
    let (url, _served) = serve(format!("{chunked}3e8\r\n{exact}\r\n1\r\ny\r\n0\r\n\r\n"), false).await;
    assert_lost(client().exchange(request("GET", &url, "")).await);
}

#[tokio::test]
async fn packed_answers_are_asked_for_and_unpacked_within_the_bound() {
    let text = format!("{{\"n\":\"{}\"}}", "Іван ".repeat(8));
    let packed: [(&str, &[u8]); 4] = [
        (
            "gzip",
            b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xab\x56\xca\x53\xb2\x52\xba\xd0\x76\x61\xd3\x85\x0d\x17\xf6\x2a\x50\xc8\x50\xaa\
            \x05\0\x6d\xe1\x94\x6e\x50\0\0\0",
        ),
        (
            "deflate",
            b"\x78\x9c\xab\x56\xca\x53\xb2\x52\xba\xd0\x76\x61\xd3\x85\x0d\x17\xf6\x2a\x50\xc8\x50\xaa\x05\0\xc8\x40\x32\x51",
        ),
        (
            "br",
            b"\x1b\x4f\0\xf8\x9d\x09\x76\x4c\x64\xc4\x08\x7f\x61\xd6\x53\x42\xef\xb9\xa5\x08\x88\x61\xc2\xca\xf6\x96\x4e\x5f\
            \x49\xf2\x54\x30\xb0\x5c\xb0\x70\x04",
        ),
        (
            "zstd",
            b"\x28\xb5\x2f\xfd\x20\x50\xbd\0\0\x88\x7b\x22\x6e\x22\x3a\x22\xd0\x86\xd0\xb2\xd0\xb0\xd0\xbd\x20\x22\x7d\x01\0\
            \xa4\x54\xea",
        ),
    ];
    let head =
        |name: &str, length| format!("HTTP/1.1 200 OK\r\ncontent-encoding: {name}\r\ncontent-length: {length}\r\n\r\n");
    for (name, body) in packed {
        let (url, served) = serve([head(name, body.len()).as_bytes(), body].concat(), false).await;
        let answer = client().exchange(request("GET", &url, "")).await.expect("an answer");
        assert_eq!(answer.body(), &text, "{name}");
        let seen = served.await.expect("a request");
        let asked = seen.lines().find(|line| line.starts_with("accept-encoding: ")).expect("it is asked for");
        assert!(asked.contains(name), "{asked}");
        let (url, _served) =
            serve([head(name, body.len() - 9).as_bytes(), &body[..body.len() - 9]].concat(), false).await;
        assert_lost(client().exchange(request("GET", &url, "")).await);
    }
    // a megabyte in fourteen bytes
    let bomb = b"\x5b\x3f\x42\x8f\x5f\x02\x26\x1e\x0b\x04\xf2\x73\x1e\0";
    let (url, _served) = serve([head("br", bomb.len()).as_bytes(), bomb].concat(), false).await;
    let words = assert_lost(client().exchange(request("GET", &url, "")).await);
    assert!(words.ends_with("the answer is longer than 1000 bytes"), "{words}");
}

#[tokio::test]
async fn an_answer_in_another_charset_comes_in_utf8() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=windows-1251\r\ncontent-length: 12\r\n\r\n";
    let (url, _served) = serve([head.as_bytes(), b"{\"n\":\"\xb2\xe2\xe0\xed\"}"].concat(), false).await;
    let answer = client().exchange(request("GET", &url, "")).await.expect("an answer");
    assert_eq!(answer.body(), "{\"n\":\"Іван\"}");
}

#[tokio::test]
async fn clear_text_leaves_this_machine_never() {
    let refused = [
        "http://reteno.com/private",
        "http://192.0.2.1/private",
        "http://localhost.example.com/private",
        "http://127.0.0.1.example.com/private",
        "http://[2001:db8::1]/private",
        "ftp://127.0.0.1/private",
        "http://jane:tok-secret@127.0.0.1/private",
        "https://jane@reteno.com/private",
    ];
    for url in refused {
        let words = assert_not_sent(client().exchange(request("GET", url, "")).await);
        assert!(words.contains("only https") || words.contains("user name"), "{url}: {words}");
    }
}

/// Notes when each request came.
struct Arrivals(Mutex<Vec<(u32, Instant)>>);

impl Exchange for Arrivals {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, ExchangeError>> {
        let number = request.uri().path().trim_start_matches('/').parse().expect("a number");
        self.0.lock().expect("no panic").push((number, Instant::now()));
        Box::pin(async { Ok(http::Response::new(Bytes::new())) })
    }
}

#[tokio::test(start_paused = true)]
async fn many_tasks_together_keep_within_one_rate_and_in_order() {
    for rate in [1_u32, 3, 100, 200] {
        let arrivals = Arc::new(Arrivals(Mutex::new(Vec::new())));
        let paced = Paced::new(Arc::clone(&arrivals) as Arc<dyn Exchange>, NonZeroU32::new(rate).expect("not zero"));
        let count = rate * 5;
        let all = (0..count).map(|number| paced.exchange(request("GET", &format!("http://a/{number}"), "")));
        for answer in join_all(all).await {
            answer.expect("an answer");
        }
        let arrivals = arrivals.0.lock().expect("no panic");
        assert!(arrivals.iter().map(|(number, _)| *number).eq(0..count), "rate {rate}: not in order");
        let second = Duration::from_secs(1);
        for (place, (_, start)) in arrivals.iter().enumerate() {
            let within = arrivals[place..].iter().take_while(|(_, at)| at.duration_since(*start) < second).count();
            assert!(within <= rate as usize, "rate {rate}: {within} within a second");
        }
        // And it is used: five seconds' worth takes less than six.
        let (_, last) = arrivals.last().expect("some");
        assert!(last.duration_since(arrivals[0].1) < 6 * second, "rate {rate}: too slow");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_gives_up_does_not_block_the_next() {
    let arrivals = Arc::new(Arrivals(Mutex::new(Vec::new())));
    let paced = Paced::new(Arc::clone(&arrivals) as Arc<dyn Exchange>, NonZeroU32::MIN);
    paced.exchange(request("GET", "http://a/0", "")).await.expect("an answer");
    let waiting = paced.exchange(request("GET", "http://a/1", ""));
    assert!(tokio::time::timeout(Duration::from_millis(10), waiting).await.is_err());
    paced.exchange(request("GET", "http://a/2", "")).await.expect("an answer");
    assert_eq!(arrivals.0.lock().expect("no panic").len(), 2);
}
