//! Sterna: an RDMA-native, adaptive parameter manager for distributed machine learning.
