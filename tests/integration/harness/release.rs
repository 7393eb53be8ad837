//! A release of the chart on a control plane of its own, and Pods as a node would report them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use controlplane::{ControlPlane, Identities, NAMESPACE};
use serde_json::{Value, json};
use tokenry::{operator::Options, outside::lead::LeaseOrder};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use super::{Plane, World, clock::Held, edge::own_address, root, run::Running};

/// Bearer tokens of the accounts that a release has made.
pub fn identities(plane: &ControlPlane) -> Identities {
    let [operator, verifier] = ["tokenry-operator", "tokenry-verifier"]
        .map(|account| plane.kubectl(&["create", "token", account, "--namespace", NAMESPACE]).unwrap().trim().into());
    Identities { operator, verifier }
}

/// Installs the chart on a control plane of its own. Returns a namespace that the accounts of the release serve.
pub async fn installed(name: &str) -> World {
    let plane = Arc::new(ControlPlane::start().unwrap());
    let chart = root().join("charts/tokenry").display().to_string();
    plane.helm(&["install", "tokenry", &chart, "--create-namespace", "--namespace", NAMESPACE]).unwrap();
    plane.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crds", "--all"]).unwrap();
    World::within(&Plane { identities: identities(&plane), plane }, name, json!({})).await
}

impl World {
    /// The operator of a release, which leads.
    pub async fn leader(&self, clock: &Held) -> Running {
        let client = self.plane.client_for(&self.identities.operator);
        let choose = |options: &mut Options| {
            options.election = Some(LeaseOrder { namespace: Some(NAMESPACE.to_owned()), ..LeaseOrder::default() });
            options.instance = Some("tokenry-operator-0".to_owned());
        };
        self.operator_with(client, clock, choose).await
    }

    /// A Pod of the Deployment of `program`, as the kubelet reports it when it is ready. The ports of the Pod lead to
    /// `running`. An earlier Pod of this name is deleted.
    pub async fn pod_of(&self, program: &str, nth: usize, running: &Running) {
        let name = format!("tokenry-{program}-{nth}");
        let kubectl = |args: &[&str], input: &str| {
            let args = [args, &["--namespace", NAMESPACE]].concat();
            self.plane.kubectl_with_input(&args, input).unwrap()
        };
        let get = ["get", "deployment", &format!("tokenry-{program}"), "-o", "json"];
        let deployment: Value = serde_json::from_str(&kubectl(&get, "")).unwrap();
        let mut pod = deployment["spec"]["template"].clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(name);
        pod["spec"]["nodeName"] = json!("node");
        let ports = pod["spec"]["containers"][0]["ports"].as_array_mut().unwrap();
        let probes = ports.iter_mut().find(|port| port["name"] == "probes").unwrap();
        let (address, port) = forwarded(running.probes).await;
        probes["containerPort"] = json!(port);
        kubectl(&["delete", "pod", &name, "--ignore-not-found", "--force", "--grace-period=0"], "");
        kubectl(&["create", "-f", "-"], &pod.to_string());
        let ready = json!({"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        kubectl(&["patch", "pod", &name, "--subresource", "status", "--patch", &ready.to_string()], "");
    }
}

/// Passes connections on to `to`, from an address that a Pod can have: the API server proxies to no loopback address.
async fn forwarded(to: SocketAddr) -> (Ipv4Addr, u16) {
    let address = own_address();
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(to).await?;
                copy_bidirectional(&mut caller, &mut server).await
            });
        }
    });
    (address, port)
}
