from torch import Tensor
from torch.nn.functional import softplus

import ganzoo
from ganzoo import Critic, Objective, Recipe


@ganzoo.objective(
    by_default=False,
    expected_failures={"objective-15": "an image is judged against the mean of a batch, not against its pair"},
)
def ragan() -> Objective:
    """S = E f(L(x) - E L(G(z))) + E f(E L(x) - L(G(z))), T = S with x and G(z) exchanged, f(t) = log(1 + e^t).

    Relativistic average: an image is judged against the batch's mean of the other kind (Jolicoeur-Martineau 2018,
    sec. 4.1, RaSGAN). So no mean over pairs: the whole batch has to be seen at once.
    """

    def loss(lower: Tensor, higher: Tensor) -> Tensor:
        return softplus(lower - higher.mean()).mean() + softplus(lower.mean() - higher).mean()

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return loss(critic(real), critic(fake))

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return loss(critic(fake), critic(real))

    native = Recipe(critic_rate=2e-4, generator_rate=2e-4, beta1=0.5, beta2=0.999, decay=1.0)
    return Objective(critic_loss, generator_loss, recipe=native)
