"""Hello, and the mean of what sensors measured: the smallest federated functions."""

import fedloom as fl

hello = fl.federated(lambda: "Hello, World!")


@fl.federated
def average(temperatures: fl.core.Clients):
    """The mean temperature over the clients."""
    return fl.core.mean(temperatures)


@fl.federated
def share_above(temperatures: fl.core.Clients, threshold):
    """The share of clients that measure more than a threshold of the server's."""
    limit = fl.core.broadcast(threshold)
    above = fl.core.map(lambda temperature, limit: temperature > limit, temperatures, limit)
    return fl.core.mean(above)


if __name__ == "__main__":
    measured = {"Kyoto": 68.5, "Oslo": 70.3, "Quito": 69.8}
    print(hello())
    print(average(measured))
    print(share_above(measured, 69.0))
