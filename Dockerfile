# The node image: what a node of --on docker needs, and the fault tools of its sidecar.
# `splitbrain images build` builds it; where the base cannot be pulled, `splitbrain images build --bootstrap` makes one.
ARG BASE=debian:bookworm-slim@sha256:4724b8cc51e33e398f0e2e15e18d5ec2851ff0c2280647e1310bc1642182655d
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      python3 redis-server redis-sentinel etcd-server iproute2 iptables procps ca-certificates \
 && rm -rf /var/lib/apt/lists/*
CMD ["sleep", "infinity"]
