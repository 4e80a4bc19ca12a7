//! Sandboxes, with a clock.

use std::time::Instant;

use anyhow::{Context, Result};
use malha_cri::{Client, SandboxConfig};

use super::engine::Engine;
use crate::stats::Series;

/// Times of the calls, in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// RunPodSandbox.
    pub run: Series,
    /// StopPodSandbox.
    pub stop: Series,
    /// From the first start of many to the last one's end.
    pub all: Series,
}

impl Times {
    /// Adds another's times.
    pub fn merge(&mut self, other: Self) {
        self.run.extend(other.run);
        self.stop.extend(other.stop);
        self.all.extend(other.all);
    }
}

impl Engine {
    /// One sandbox: started, stopped, removed.
    ///
    /// # Errors
    /// When a call fails.
    pub fn once(&self, number: u32, host_network: bool) -> Result<Times> {
        let name = if host_network { "bare" } else { "one" };
        let config = self.sandbox(&format!("{name}-{number}"), host_network);
        self.tokio.block_on(async {
            let mut client = self.client().await?;
            let mut times = Times::default();
            let id = start(&mut client, &config, &mut times).await?;
            stop(&mut client, &id, &mut times).await?;
            Ok(times)
        })
    }

    /// Many that exist at once, several of them started and stopped at a time.
    ///
    /// # Errors
    /// When a call fails.
    pub fn many(&self, pods: u32, workers: u32) -> Result<Times> {
        let mut times = Times::default();
        let begun = Instant::now();
        let mut started = Vec::new();
        for (ids, more) in self.side_by_side(workers, |worker, mut client| {
            let mine = (0..pods).filter(move |pod| pod % workers == worker);
            let configs: Vec<_> = mine
                .map(|pod| self.sandbox(&format!("many-{pod}"), false))
                .collect();
            async move {
                let (mut ids, mut times) = (Vec::new(), Times::default());
                for config in &configs {
                    ids.push(start(&mut client, config, &mut times).await?);
                }
                Ok((ids, times))
            }
        })? {
            started.push(ids);
            times.merge(more);
        }
        times.all.push_time(begun.elapsed());
        for more in self.side_by_side(workers, |worker, mut client| {
            let ids = started[worker as usize].clone();
            async move {
                let mut times = Times::default();
                for id in &ids {
                    stop(&mut client, id, &mut times).await?;
                }
                Ok(times)
            }
        })? {
            times.merge(more);
        }
        Ok(times)
    }

    fn side_by_side<T, F>(&self, workers: u32, work: impl Fn(u32, Client) -> F) -> Result<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.tokio.block_on(async {
            let mut running = Vec::new();
            for worker in 0..workers {
                let client = self.client().await?;
                running.push(tokio::spawn(work(worker, client)));
            }
            let mut done = Vec::new();
            for task in running {
                done.push(task.await.context("a worker ended")??);
            }
            Ok(done)
        })
    }

    fn sandbox(&self, name: &str, host_network: bool) -> SandboxConfig {
        SandboxConfig {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
            cgroup_parent: self.cgroup().to_owned(),
            host_network,
            ..SandboxConfig::default()
        }
    }
}

async fn start(client: &mut Client, config: &SandboxConfig, times: &mut Times) -> Result<String> {
    let begun = Instant::now();
    let id = client.run_sandbox(config).await?;
    times.run.push_time(begun.elapsed());
    Ok(id)
}

async fn stop(client: &mut Client, id: &str, times: &mut Times) -> Result<()> {
    let begun = Instant::now();
    client.stop_sandbox(id).await?;
    times.stop.push_time(begun.elapsed());
    Ok(client.remove_sandbox(id).await?)
}
