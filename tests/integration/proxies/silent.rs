//! Verifiers that say nothing.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};

/// An address of a verifier that says nothing, until it is dropped.
pub struct Silent {
    pub address: SocketAddr,
    taken: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Silent {
    /// One that takes connections, and answers none.
    pub fn hangs(listener: TcpListener) -> Self {
        let (address, taken) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let count = taken.clone();
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok(connection) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                held.push(connection);
            }
        });
        Self { address, taken, task }
    }

    /// One whose queue of connections is full, so that a connect waits.
    pub async fn is_full() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let first = TcpStream::connect(address).await.unwrap();
        let task = tokio::spawn(async move {
            let _second = TcpStream::connect(address).await;
            drop((first, listener));
        });
        Self { address, taken: Arc::default(), task }
    }

    /// The number of connections that it took.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}
