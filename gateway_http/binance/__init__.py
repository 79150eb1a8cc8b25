"""The API that Binance's clients speak, mapped onto the gRPC services. docs/binance.md says what of it is here."""
