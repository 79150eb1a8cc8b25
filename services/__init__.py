"""The processes of the exchange, one package each."""
