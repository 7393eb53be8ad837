//! Floods by frames of HTTP/2 (RFC 9113).

use std::ops::Range;

use tokio::io::{self, AsyncWriteExt};

use super::{BOTH, Besieged, FEW, ports::Stream, read_on};

/// The streams of a connection that leaves them open. It is the limit of the server.
const OPEN: u32 = 100;
/// Connections with that many streams each: half of the places of the verifier, so that a build without optimization
/// answers in time. A stream takes 3 to 5 KiB in it.
const HALF: usize = 512;
/// The growth of memory by half of all possible streams, in bytes: half of the limit of 512 MiB that the chart sets.
const MANY: f64 = 256.0 * 1024.0 * 1024.0;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A text of HPACK, shorter than 127 bytes.
fn text(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// The header block of a request: GET or POST, http, the path, and the authority.
fn block(method: Method, path: &str) -> Vec<u8> {
    [&[method as u8, 0x86, 0x04][..], &text(path), &[0x01], &text("x")].concat()
}

/// A method, as its index in the static table of HPACK.
#[derive(Clone, Copy)]
enum Method {
    Get = 0x82,
    Post = 0x83,
}

/// The header block of a request for forward authentication.
fn asking() -> Vec<u8> {
    block(Method::Get, "/v1/instances/a/b/authorize")
}

/// The header block of a TokenReview.
fn reviewing() -> Vec<u8> {
    let media = [&[0x0f, 0x10][..], &text("application/json")].concat();
    [block(Method::Post, "/v1/instances/a/b/tokenreviews"), media].concat()
}

/// A request on each odd stream of a range, with the frames that `more` adds.
fn requests(streams: Range<u32>, flags: u8, more: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let odd = streams.map(|n| 2 * n + 1);
    odd.flat_map(|stream| [frame(HEADERS, flags, stream, &asking()), more(stream)].concat()).collect()
}

/// The streams of the nth part of a flood.
fn streams(n: u32) -> Range<u32> {
    50 * n..50 * (n + 1)
}

/// Begins a connection of HTTP/2 with these settings.
async fn begin(stream: &mut Stream, settings: &[u8]) -> io::Result<()> {
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    stream.write_all(&frame(SETTINGS, 0, 0, settings)).await
}

/// Floods the verifier with the nth frames after one another, on a few connections. The answers are read.
async fn flooded(name: &str, frames: impl Fn(u32) -> Vec<u8>) {
    let flood = async |stream: &mut Stream| -> io::Result<()> {
        begin(stream, &[]).await?;
        let (mut read, mut write) = io::split(stream);
        let writes = async {
            for n in 0.. {
                write.write_all(&frames(n)).await?;
            }
            Ok(())
        };
        tokio::select! {
            ended = writes => ended,
            ended = read_on(&mut read) => ended,
        }
    };
    Besieged::new(name).await.endures(&BOTH, FEW, flood).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_resets_leave_room() {
    // CVE-2023-44487.
    let cancel = |stream| frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
    flooded("resets", |n| requests(streams(n), END_STREAM | END_HEADERS, cancel)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_that_the_server_is_made_to_send_leave_room() {
    // CVE-2025-8671: a window update of zero is an error of the stream.
    let wrong = |stream| frame(WINDOW_UPDATE, 0, stream, &[0; 4]);
    flooded("made-resets", |n| requests(streams(n), END_HEADERS, wrong)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_streams_than_allowed_leave_room() {
    flooded("streams", |n| requests(streams(n), END_HEADERS, |_| Vec::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_continuations_leave_room() {
    // CVE-2024-27316, and others of that kind.
    let more = [&[0x00][..], &text("x-a"), &text("b")].concat().repeat(1000);
    flooded("continued", |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, &asking()),
        _ => frame(CONTINUATION, 0, 1, &more),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_and_settings_leave_room() {
    flooded("pings", |_| [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])].concat().repeat(100)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_carry_nothing_leave_room() {
    // CVE-2019-9518, and others of that kind. The verifier waits for the body of the stream.
    let nothing = [
        frame(DATA, 0, 1, &[]),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 7]),
        frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes()),
    ];
    let nothing = nothing.concat().repeat(100);
    flooded("nothing", |n| match n {
        0 => frame(HEADERS, END_HEADERS, 1, &reviewing()),
        _ => nothing.clone(),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_grow_on_arrival_leave_room() {
    // A header of 100 bytes enters the table of HPACK. Then a byte each repeats it.
    let enters = [&[0x40][..], &text("x-a"), &text(&"b".repeat(100))].concat();
    let grown = [asking(), vec![0xbe; 10_000]].concat();
    flooded("grown", |n| match n {
        0 => frame(HEADERS, END_STREAM | END_HEADERS, 1, &[asking(), enters.clone()].concat()),
        _ => frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &grown),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_do_not_fit_a_window_of_zero_leave_room() {
    // SETTINGS_INITIAL_WINDOW_SIZE is 0, so no body of an answer can be sent. The answer to a bad token has a body.
    let bad = [asking(), vec![0x0f, 0x08], text("Bearer x")].concat();
    let all: Vec<u8> = (0..OPEN).flat_map(|n| frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &bad)).collect();
    let wait = async |stream: &mut Stream| -> io::Result<()> {
        begin(stream, &[0, 4, 0, 0, 0, 0]).await?;
        stream.write_all(&all).await?;
        read_on(stream).await
    };
    Besieged::new("window").await.endures_alone(MANY, &BOTH, HALF, wait).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_answers_that_nobody_reads_leave_room() {
    let ask = async |stream: &mut Stream| -> io::Result<()> {
        begin(stream, &[]).await?;
        for n in 0.. {
            stream.write_all(&requests(streams(n), END_STREAM | END_HEADERS, |_| Vec::new())).await?;
            stream.write_all(&frame(PING, 0, 0, &[0; 8]).repeat(100)).await?;
        }
        Ok(())
    };
    Besieged::new("unread-frames").await.endures(&BOTH, FEW, ask).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_do_not_come_leave_room() {
    let wait = async |stream: &mut Stream| -> io::Result<()> {
        begin(stream, &[]).await?;
        let all: Vec<u8> = (0..OPEN).flat_map(|n| frame(HEADERS, END_HEADERS, 2 * n + 1, &reviewing())).collect();
        stream.write_all(&all).await?;
        read_on(stream).await
    };
    Besieged::new("bodiless").await.endures_alone(MANY, &BOTH, HALF, wait).await;
}
