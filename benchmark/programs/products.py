"""Times the matrix products of one update of DDPG, without the rest of it; prints [seconds].

The argument is JSON: env_id and batch_size.
"""

import json
import statistics
import sys
import time

import gymnasium as gym
import torch


def layers(n_in, n_out):
    """Inputs and outputs of the layers of ddpg.py's networks."""
    return [(n_in, 256), (256, 256), (256, n_out)]


def forward(network, B):
    """Shapes (rows, inner, columns) of the products of a forward pass of a batch."""
    return [(B, n_in, n_out) for n_in, n_out in network]


def weight_gradients(network, B):
    return [(n_in, B, n_out) for n_in, n_out in network]


def input_gradients(network, B):
    return [(B, n_out, n_in) for n_in, n_out in network]


def products_of_an_update(policy, critic, B):
    # Q'(s', μ'(s')), Q(s, a), Q(s, μ(s))
    shapes = forward(policy, B) * 2 + forward(critic, B) * 3
    # the critic's step: no gradient by its inputs
    shapes += weight_gradients(critic, B) + input_gradients(critic[1:], B)
    # the policy's step: through the critic to the action, then through the policy
    shapes += input_gradients(critic, B)
    shapes += weight_gradients(policy, B) + input_gradients(policy[1:], B)
    return shapes


def main():
    case = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    env = gym.make(case["env_id"])
    obs_dim, act_dim = env.observation_space.shape[0], env.action_space.shape[0]
    shapes = products_of_an_update(
        layers(obs_dim, act_dim), layers(obs_dim + act_dim, 1), case["batch_size"]
    )
    products = [(torch.randn(a, b), torch.randn(b, c), torch.empty(a, c)) for a, b, c in shapes]
    times = []
    for _ in range(201):
        start = time.perf_counter()
        for a, b, out in products:
            torch.mm(a, b, out=out)
        times.append(time.perf_counter() - start)
    print(json.dumps([statistics.median(times)]))


if __name__ == "__main__":
    main()
