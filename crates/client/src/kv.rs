//! Calls on keys.

use crate::call::Repeat;
use crate::{Client, Delete, Error, Get, Put, Txn};
use cetera_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeResponse, PutResponse, RangeResponse, RangeStreamResponse,
    TxnResponse,
};
use cetera_proto::services::MethodId;

impl Client {
    /// Reads (`KV/Range`).
    pub async fn get(&self, get: Get) -> Result<RangeResponse, Error> {
        self.unary(MethodId::Range, Repeat::Yes, get.0).await
    }

    /// Reads in chunks (`KV/RangeStream`) and puts them together.
    pub async fn get_streamed(&self, get: Get) -> Result<RangeResponse, Error> {
        let read = async {
            let mut chunks = self.server_stream(MethodId::RangeStream, get.0).await?;
            let mut whole = RangeResponse::default();
            while let Some(chunk) = chunks.message().await? {
                let RangeStreamResponse { range_response } = chunk;
                let Some(chunk) = range_response else { continue };
                whole.kvs.extend(chunk.kvs);
                // Only the last chunk has these (contract KV-12).
                whole.header = chunk.header.or(whole.header);
                whole.more |= chunk.more;
                whole.count += chunk.count;
            }
            Ok(whole)
        };
        crate::call::before(self.timeout.map(|t| tokio::time::Instant::now() + t), read).await?
    }

    /// Writes (`KV/Put`).
    pub async fn put(&self, put: Put) -> Result<PutResponse, Error> {
        self.unary(MethodId::Put, Repeat::No, put.0).await
    }

    /// Deletes (`KV/DeleteRange`).
    pub async fn delete(&self, delete: Delete) -> Result<DeleteRangeResponse, Error> {
        self.unary(MethodId::DeleteRange, Repeat::No, delete.0).await
    }

    /// Runs a transaction (`KV/Txn`).
    pub async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        let repeat = if txn.is_read_only() { Repeat::Yes } else { Repeat::No };
        self.unary(MethodId::Txn, repeat, txn.0).await
    }

    /// Forgets history below `revision` (`KV/Compact`). `physical`: answers once it is gone from disk.
    pub async fn compact(&self, revision: i64, physical: bool) -> Result<CompactionResponse, Error> {
        self.unary(MethodId::Compact, Repeat::No, CompactionRequest { revision, physical }).await
    }
}
