"""The network: frozen backbone, features, adaptor, two heads, anomaly map."""
