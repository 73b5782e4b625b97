//! A site of network namespaces and the processes in it.
