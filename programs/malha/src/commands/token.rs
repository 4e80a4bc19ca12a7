//! `malha token …`: what nodes join with.

use std::{path::PathBuf, process::ExitCode, str::FromStr};

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use malha_bootstrap::{
    duration::GoDuration,
    token::{BootstrapToken, Token, TokenId, Usage},
};
use malha_join::{
    clock::Clock,
    paths::Paths,
    token::{Access, Create, Format, Tokens, join_command, table, write_objects},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The kubeconfig to use [default: $KUBECONFIG, else /etc/kubernetes/admin.conf].
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a token and print it.
    Create(CreateArgs),
    /// List the tokens.
    List {
        /// How to print them.
        #[arg(short, long, value_name = "FORMAT", default_value = "text")]
        output: Output,
    },
    /// Delete tokens, by ID or as a whole.
    Delete {
        /// The tokens or their IDs.
        #[arg(value_name = "TOKEN", required = true)]
        tokens: Vec<String>,
    },
    /// Print a random token, for malha token create or malha init --token; changes nothing.
    Generate,
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// The token [default: a random one].
    #[arg(value_name = "TOKEN")]
    token: Option<String>,
    /// How long it works, for example 1h30m; 0 for ever.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "24h0m0s",
        allow_hyphen_values = true
    )]
    ttl: GoDuration,
    /// What it may be used for.
    #[arg(
        long,
        value_name = "USES",
        value_delimiter = ',',
        default_value = "signing,authentication"
    )]
    usages: Vec<Usage>,
    /// Groups its bearer gets; "" for none [default: system:bootstrappers:kubeadm:default-node-token].
    #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
    groups: Option<Vec<String>>,
    /// What it is for, for people.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Print the whole command for joining instead.
    #[arg(long)]
    print_join_command: bool,
    /// How to print it.
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "text",
        conflicts_with = "print_join_command"
    )]
    output: Output,
}

/// How to print tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// JSON objects.
    Json,
    /// YAML documents.
    Yaml,
}

impl From<Output> for Format {
    fn from(output: Output) -> Self {
        match output {
            Output::Text => Format::Text,
            Output::Json => Format::Json,
            Output::Yaml => Format::Yaml,
        }
    }
}

/// A token or its ID. Not parsed by clap, which would repeat what it cannot read: it may be a secret with one character
/// wrong.
fn parse_id(text: &str) -> Result<TokenId> {
    match text.contains('.') {
        true => Ok(Token::from_str(text)?.id),
        false => Ok(TokenId::from_str(text)?),
    }
}

pub fn run(args: Args) -> Result<ExitCode> {
    let access = Access {
        kubeconfig: args.kubeconfig,
    };
    let open = async move || access.client(&Paths::default()).await.map(Tokens::new);
    match args.command {
        Command::Create(create) => {
            let (print_join_command, output) = (create.print_join_command, create.output);
            let token = create.describe()?;
            super::block_on(async move {
                let tokens = open().await?;
                if !print_join_command {
                    tokens.create(&token).await?;
                    return print(token, output);
                }
                // First, so that no token is left when it cannot be used.
                let (endpoint, pins) = tokens.control_plane().await?;
                tokens.create(&token).await?;
                println!("{}", join_command(&endpoint, Some(&token.token), &pins));
                Ok(ExitCode::SUCCESS)
            })
        }
        Command::List { output } => {
            super::block_on(async move { list(&open().await?, output).await })
        }
        Command::Delete { tokens: named } => {
            let ids: Vec<TokenId> = named
                .iter()
                .map(|text| parse_id(text))
                .collect::<Result<_>>()?;
            super::block_on(async move { delete(&open().await?, &ids).await })
        }
        Command::Generate => {
            println!("{}", Token::generate().expose());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn print(token: BootstrapToken, output: Output) -> Result<ExitCode> {
    match output {
        Output::Text => println!("{}", token.token.expose()),
        other => print!("{}", write_objects(&[token], other.into())?),
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(tokens: &Tokens, output: Output) -> Result<ExitCode> {
    let found = tokens.list().await?;
    match output {
        Output::Text => print!("{}", table(&found, Clock::default().now())),
        other => print!("{}", write_objects(&found, other.into())?),
    }
    Ok(ExitCode::SUCCESS)
}

async fn delete(tokens: &Tokens, ids: &[TokenId]) -> Result<ExitCode> {
    for id in ids {
        tokens.delete(id).await?;
        println!("bootstrap token \"{id}\" deleted");
    }
    Ok(ExitCode::SUCCESS)
}

impl CreateArgs {
    fn describe(self) -> Result<BootstrapToken> {
        let named = |groups: Vec<String>| {
            groups
                .into_iter()
                .filter(|group| !group.is_empty())
                .collect()
        };
        let create = Create {
            token: self.token.map(|text| text.parse()).transpose()?,
            ttl: self.ttl.as_seconds(),
            usages: self.usages.into_iter().collect(),
            groups: self.groups.map(named),
            description: self.description,
        };
        create.describe(Clock::default().now())
    }
}
