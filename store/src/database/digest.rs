//! Digests as `bytea` columns.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

use crate::blob::Digest;

impl Type<Postgres> for Digest {
    fn type_info() -> PgTypeInfo {
        <[u8; 32] as Type<Postgres>>::type_info()
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        <[u8; 32] as Type<Postgres>>::compatible(ty)
    }
}

impl PgHasArrayType for Digest {
    fn array_type_info() -> PgTypeInfo {
        <[u8; 32] as PgHasArrayType>::array_type_info()
    }
}

impl Encode<'_, Postgres> for Digest {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <[u8; 32] as Encode<'_, Postgres>>::encode_by_ref(self.as_bytes(), buffer)
    }
}

impl Decode<'_, Postgres> for Digest {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(Digest::from(<[u8; 32] as Decode<'_, Postgres>>::decode(value)?))
    }
}
