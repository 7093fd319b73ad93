"""Who a fleet's devices are at IoT Core: things in one group, each with a certificate."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from windflower.adapters.aws.account import Service, code_of
from windflower.adapters.aws.stack import listed
from windflower.errors import ConfigError

_MARK: Final = "windflower"
"""The attribute of the things that a fleet made: whoever removes it may remove them."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device connects with.

    Attributes:
        certificate: PEM, by IoT Core.
        arn: the certificate's.
        key: PEM; it never left this process.
        endpoint: the account's broker.
    """

    certificate: bytes
    arn: str
    key: bytes
    endpoint: str


class Registry:
    """The things of one fleet: those that it made, which bear its name, and Greengrass cores.

    Args:
        iot: the service.
        fleet: its UniqueKey.
        group: the fleet's thing group.
        policy: the policy of its devices.
    """

    def __init__(self, iot: Service, *, fleet: str, group: str, policy: str) -> None:
        self._iot = iot
        self._fleet = fleet
        self._group = group
        self._policy = policy

    async def add(self, *devices: str) -> Identity:
        """Make things, and one certificate for them; a thing of ours that is there gets one more.

        Raises:
            ConfigError: somebody else made one of them; nothing was made.
        """
        for device in devices:
            found = await self._attributes(device)
            if found is not None and found.get(_MARK) != self._fleet:
                raise ConfigError(
                    f"there is a thing {device} that this fleet did not make: if it is a Greengrass"
                    f" core, windflower aws add-device {device} --core lets it in",
                    key="device",
                )
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, devices[0])])
        request = x509.CertificateSigningRequestBuilder().subject_name(name)
        signed = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        call = self._iot.call
        made = await call(
            "create_certificate_from_csr",
            certificateSigningRequest=signed.decode(),
            setAsActive=True,
        )
        arn = made["certificateArn"]
        await call("attach_policy", policyName=self._policy, target=arn)
        for device in devices:
            mark = {"attributes": {_MARK: self._fleet}}
            await call("create_thing", thingName=device, attributePayload=mark)
            await call("add_thing_to_thing_group", thingName=device, thingGroupName=self._group)
            await call("attach_thing_principal", thingName=device, principal=arn)
        broker = await call("describe_endpoint", endpointType="iot:Data-ATS")
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Identity(made["certificatePem"].encode(), arn, pem, broker["endpointAddress"])

    async def withdraw(self, identity: Identity, *devices: str) -> None:
        """Undo an `add`, by nothing but what it returned."""
        call = self._iot.call
        for device in devices:
            await call("detach_thing_principal", thingName=device, principal=identity.arn)
            await call("delete_thing", thingName=device)
        await call("detach_policy", policyName=self._policy, target=identity.arn)
        name = identity.arn.rpartition("/")[2]
        await call("update_certificate", certificateId=name, newStatus="INACTIVE")
        await call("delete_certificate", certificateId=name)

    async def things(self) -> list[str]:
        """Return the names of the fleet's things; none where the group is gone."""
        found = listed(
            self._iot, "list_things_in_thing_group", "things", thingGroupName=self._group
        )
        try:
            return [str(one) async for one in found]
        except (ConfigError, ClientError) as error:
            if _is_missing(error):
                return []
            raise

    async def adopt(self, core: str) -> int:
        """Let a thing in that somebody else made, by the certificates that it has; make nothing.

        Returns how many those are. Idempotent.

        Raises:
            ConfigError: there is no such thing, or it has no certificate.
        """
        if await self._attributes(core) is None:
            raise ConfigError(f"there is no thing {core}: a Greengrass core has one", key="device")
        certificates = await self._certificates(core)
        if not certificates:
            raise ConfigError(f"the thing {core} has no certificate", key="device")
        for certificate in certificates:
            await self._iot.call("attach_policy", policyName=self._policy, target=certificate)
        await self._iot.call("add_thing_to_thing_group", thingName=core, thingGroupName=self._group)
        return len(certificates)

    async def what_goes(self, thing: str) -> str:
        """Return what `remove` would say at its end."""
        what = f"thing {thing}"
        return what if await self._is_ours(thing) else f"{what}: out of the fleet, it stays"

    async def remove(self, thing: str) -> AsyncIterator[str]:
        """Remove a thing, or let go of one that somebody else made; say what went."""
        is_ours, what = await self._is_ours(thing), await self.what_goes(thing)
        for certificate in await self._certificates(thing):
            if not is_ours:
                await self._iot.call("detach_policy", policyName=self._policy, target=certificate)
            elif said := await self._remove_certificate(thing, certificate):
                yield said
        await self._iot.call(
            "remove_thing_from_thing_group", thingName=thing, thingGroupName=self._group
        )
        if is_ours:
            await self._iot.call("delete_thing", thingName=thing)
        yield what

    async def _remove_certificate(self, thing: str, certificate: str) -> str:
        """Remove a certificate of a thing of ours where it is for nothing else."""
        call = self._iot.call
        await call("detach_thing_principal", thingName=thing, principal=certificate)
        things = listed(self._iot, "list_principal_things", "things", principal=certificate)
        if [one async for one in things]:
            return ""
        await call("detach_policy", policyName=self._policy, target=certificate)
        policies = listed(self._iot, "list_attached_policies", "policies", target=certificate)
        if [one async for one in policies]:
            return f"certificate of {thing}: left, somebody else uses it"
        name = certificate.rpartition("/")[2]
        await call("update_certificate", certificateId=name, newStatus="INACTIVE")
        await call("delete_certificate", certificateId=name)
        return f"certificate of {thing}"

    async def _certificates(self, thing: str) -> list[str]:
        principals = listed(self._iot, "list_thing_principals", "principals", thingName=thing)
        return [str(one) async for one in principals if ":cert/" in str(one)]

    async def _is_ours(self, thing: str) -> bool:
        return (await self._attributes(thing) or {}).get(_MARK) == self._fleet

    async def _attributes(self, thing: str) -> dict[str, str] | None:
        """Return a thing's attributes, None where there is no such thing."""
        missing = ["ResourceNotFoundException"]
        try:
            found = await self._iot.call("describe_thing", expected=missing, thingName=thing)
        except ClientError:
            return None
        return dict(found.get("attributes", {}))


def _is_missing(error: Exception) -> bool:
    cause = error.__cause__ if not isinstance(error, ClientError) else error
    return isinstance(cause, ClientError) and code_of(cause) == "ResourceNotFoundException"
