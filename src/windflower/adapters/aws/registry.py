"""Who a fleet's devices are at IoT Core: things in one group, each with a certificate."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from windflower.adapters.aws.account import Service, code_of
from windflower.adapters.aws.stack import listed
from windflower.errors import ConfigError


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
    """The things of one fleet.

    Args:
        iot: the service.
        group: the fleet's thing group.
        policy: the policy of its devices.
    """

    def __init__(self, iot: Service, *, group: str, policy: str) -> None:
        self._iot = iot
        self._group = group
        self._policy = policy

    async def add(self, *devices: str) -> Identity:
        """Make things, and one certificate for them; a thing that is there gets one more."""
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
            await call("create_thing", thingName=device)
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

    async def remove(self, thing: str) -> AsyncIterator[str]:
        """Remove a thing, and its certificates where they are for nothing else; say what went."""
        certificates = listed(self._iot, "list_thing_principals", "principals", thingName=thing)
        for certificate in [str(one) async for one in certificates]:
            call = self._iot.call
            await call("detach_thing_principal", thingName=thing, principal=certificate)
            things = listed(self._iot, "list_principal_things", "things", principal=certificate)
            others = [one async for one in things]
            if others:
                continue
            await call("detach_policy", policyName=self._policy, target=certificate)
            policies = listed(self._iot, "list_attached_policies", "policies", target=certificate)
            if [one async for one in policies]:
                yield f"certificate of {thing}: left, somebody else uses it"
                continue
            name = certificate.rpartition("/")[2]
            await call("update_certificate", certificateId=name, newStatus="INACTIVE")
            await call("delete_certificate", certificateId=name)
            yield f"certificate of {thing}"
        await self._iot.call(
            "remove_thing_from_thing_group", thingName=thing, thingGroupName=self._group
        )
        await self._iot.call("delete_thing", thingName=thing)
        yield f"thing {thing}"


def _is_missing(error: Exception) -> bool:
    cause = error.__cause__ if not isinstance(error, ClientError) else error
    return isinstance(cause, ClientError) and code_of(cause) == "ResourceNotFoundException"
