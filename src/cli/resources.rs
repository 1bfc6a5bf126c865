//! What a run may use: a device, a type for the weights, memory.

use super::term::Usage;
use clap::Args;
use penjing::model::{Dtype, LoadOptions};
use tch::{Cuda, Device};

#[derive(Args, Clone)]
pub struct Resources {
    /// Where the model runs: cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// The type that weights are kept in; they are multiplied in f32, or in f64 if they are kept in it
    #[arg(long, value_enum, default_value = "auto")]
    pub dtype: DtypeArgument,
    /// The most memory to use, for example 8GB, or a share of what is free
    #[arg(long, default_value = "80%", value_name = "SIZE")]
    pub memory: String,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum DtypeArgument {
    /// As the checkpoint has them; small half-precision models in f32
    Auto,
    /// To tell rounding from mistakes
    F64,
    F32,
    F16,
    Bf16,
}

impl Resources {
    /// # Errors
    /// A device that does not exist.
    pub fn load_options(&self) -> anyhow::Result<LoadOptions> {
        let dtype = match self.dtype {
            DtypeArgument::Auto => Dtype::Auto,
            DtypeArgument::F64 => Dtype::F64,
            DtypeArgument::F32 => Dtype::F32,
            DtypeArgument::F16 => Dtype::F16,
            DtypeArgument::Bf16 => Dtype::Bf16,
        };
        Ok(LoadOptions { device: self.device()?, dtype, cache: super::hub::cache() })
    }

    fn device(&self) -> anyhow::Result<Device> {
        let number = match self.device.as_str() {
            "cpu" => return Ok(Device::Cpu),
            "cuda" => Some(0),
            other => other.strip_prefix("cuda:").and_then(|number| number.parse::<usize>().ok()),
        };
        let usage = |message: String, hint: &str| Err(Usage { message, hint: hint.to_owned() }.into());
        let Some(number) = number else {
            return usage(format!("`{}` is no device", self.device), "devices are cpu, cuda and cuda:0, cuda:1, ...");
        };
        if !Cuda::is_available() {
            return usage(
                format!("this libtorch sees no GPU, so {} cannot be used", self.device),
                "`penjing doctor` shows what is missing; docs/install.md says how to build with CUDA",
            );
        }
        match Cuda::device_count() {
            count if (number as i64) < count => Ok(Device::Cuda(number)),
            count => usage(format!("there is no {}: {count} found", self.device), "devices are counted from cuda:0"),
        }
    }

    /// The most memory that the run may use, in bytes.
    ///
    /// # Errors
    /// A size that cannot be read, or a share where what is free is not known.
    pub fn limit(&self) -> anyhow::Result<usize> {
        let usage = |message: String| -> anyhow::Error {
            Usage { message, hint: "write --memory 8GB, 500MB, or a share such as 50%".into() }.into()
        };
        let wrong = || usage(format!("`{}` is no amount of memory", self.memory));
        let text = self.memory.trim();
        if let Some(share) = text.strip_suffix('%') {
            let share: f64 = share.trim().parse().map_err(|_| wrong())?;
            if !(share > 0.0 && share <= 100.0) {
                return Err(wrong());
            }
            let free = free(self.device()?);
            let free = free.ok_or_else(|| usage(format!("how much memory of {} is free is not known", self.device)))?;
            return Ok((free as f64 * share / 100.0) as usize);
        }
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "" | "B" => 1.0,
            "K" | "KB" => 1e3,
            "M" | "MB" => 1e6,
            "G" | "GB" => 1e9,
            "T" | "TB" => 1e12,
            "KIB" => 1024.0,
            "MIB" => 1024.0 * 1024.0,
            "GIB" => 1024.0 * 1024.0 * 1024.0,
            _ => return Err(wrong()),
        };
        let number: f64 = digits.trim().parse().map_err(|_| wrong())?;
        let bytes = number * unit;
        if bytes.is_finite() && bytes >= 1.0 { Ok(bytes as usize) } else { Err(wrong()) }
    }
}

/// Bytes that are free on a device.
fn free(device: Device) -> Option<usize> {
    let Device::Cuda(number) = device else {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        let of_machine = system.available_memory();
        // In a container the machine's memory is not what may be used.
        let free = system.cgroup_limits().map_or(of_machine, |limits| of_machine.min(limits.free_memory));
        return usize::try_from(free).ok().filter(|&bytes| bytes > 0);
    };
    let query = std::process::Command::new("nvidia-smi")
        .args(["--query-gpu=memory.free", "--format=csv,noheader,nounits", &format!("--id={number}")])
        .output()
        .ok()?;
    let mebibytes: usize = std::str::from_utf8(&query.stdout).ok()?.trim().parse().ok()?;
    Some(mebibytes << 20)
}
