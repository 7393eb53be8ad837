//! The programs that tests run. They are found on this machine, or built from pinned Go modules.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

use crate::Error;

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

const KUBERNETES: Module = Module {
    file: "go.mod",
    text: include_str!("../go.mod"),
    sums: include_str!("../go.sum"),
    programs: &["etcd", "helm", "kube-apiserver", "kube-controller-manager", "kubectl"],
    duration: "takes about 5 to 8 minutes the first time",
};

const CADDY: Module = Module {
    file: "caddy.mod",
    text: include_str!("../caddy.mod"),
    sums: include_str!("../caddy.sum"),
    programs: &["caddy"],
    duration: "takes about 1 to 2 minutes the first time",
};

/// Finds a program: `etcd`, `kube-apiserver`, `kube-controller-manager`, `kubectl`, `helm` or
/// `caddy`.
///
/// The program is searched in the folder `$KUBEBUILDER_ASSETS`, then in a cache
/// (`$XDG_CACHE_HOME/tokenry/controlplane`, by default below `~/.cache`). A program in neither folder is built into the
/// cache with Go, once. The build takes minutes, so it is announced on standard error.
pub fn program(name: &str) -> Result<PathBuf, Error> {
    Environment::of_process().program(name)
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
        let module = [KUBERNETES, CADDY]
            .into_iter()
            .find(|module| module.programs.contains(&name))
            .ok_or_else(|| Error::UnknownProgram { name: name.to_owned() })?;
        let asset = self.assets.as_ref().map(|assets| assets.join(name));
        if let Some(asset) = asset.filter(|asset| asset.is_file()) {
            return Ok(asset);
        }
        let built = self.cache.join(module.key());
        if !built.is_dir() {
            self.build(&module, &built)?;
        }
        Ok(built.join(name))
    }

    /// Builds the programs of `module` into the folder `target`. The folder appears only when it is complete.
    fn build(&self, module: &Module, target: &Path) -> Result<(), Error> {
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
        // Go inherits the lock as its input. If this process is killed, no other process builds until Go has ended.
        self.install(module, &partial, lock.try_clone().map_err(failed)?)?;
        // etcd's package is called `server`, so Go names the program `server`.
        match fs::rename(partial.join("server"), partial.join("etcd")) {
            Err(source) if source.kind() != ErrorKind::NotFound => return Err(failed(source)),
            _ => {}
        }
        fs::rename(&partial, target).map_err(failed)
    }

    fn install(&self, module: &Module, folder: &Path, input: File) -> Result<(), Error> {
        let programs = module.programs.join(", ");
        // Without the version, the API server says that it is v0.0.0.
        let version = kubernetes_version();
        let flags = format!("-s -w -X k8s.io/component-base/version.gitVersion={version}");
        let modfile = format!("-modfile={}", module.file);
        let go = Command::new("go")
            .args(["install", &modfile, "-trimpath", "-ldflags", &flags, "tool"])
            .current_dir(FOLDER)
            .env("PATH", &self.path)
            .env("GOBIN", folder)
            .env("GOFLAGS", "-mod=readonly")
            .env("GOWORK", "off")
            .env("CGO_ENABLED", "0")
            .stdin(input)
            .spawn();
        let mut go = match go {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::NoGo { programs });
            }
            result => result.map_err(|source| Error::io("run go in", Path::new(FOLDER), source))?,
        };
        // The test harness would hold back the output of `eprintln!` until the test ends.
        let _ = writeln!(
            io::stderr(),
            "building {programs} with Go below {}; this {}",
            self.cache.display(),
            module.duration,
        );
        let status = go.wait().map_err(|source| Error::io("wait for go in", folder, source))?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::Build { module: Path::new(FOLDER).join(module.file), status })
        }
    }
}

/// A Go module without source code, whose tools are the programs.
struct Module {
    file: &'static str,
    text: &'static str,
    sums: &'static str,
    programs: &'static [&'static str],
    duration: &'static str,
}

impl Module {
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
    fn an_unknown_program_is_an_error() {
        let (folder, environment) = empty("unknown");
        let message = environment.program("kubelet").unwrap_err().to_string();
        fs::remove_dir_all(folder).unwrap();
        assert!(message.contains("kubelet"), "{message}");
    }
}
